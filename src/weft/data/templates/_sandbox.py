"""Jinja as Transformers sets it up, but so that a template can reach nothing outside itself and always comes to an end.

What a template spends is bounded (`_bounds`); what goes beyond is refused as a TemplateError. The moment that a template is told
(`strftime_now`) is the beginning of the day on which the program was made: it stays at midnight, and other processes write the same.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import jinja2
import jinja2.ext
import jinja2.sandbox
from jinja2 import nodes
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from weft.data.templates._bounds import (
    MAX_CHARS,
    MAX_STEPS,
    WIDE_DATE,
    Budget,
    refuse_beyond,
    refuse_format,
    refuse_operation,
)
from weft.errors import TemplateError

_MAX_SOURCE = 1 << 20
GENERATED = ("\u2997<\u2998", "\u2997>\u2998")
"""What stands around the text of a `{% generation %}` block where it is asked for."""
_NOT_FOR_CHATS = ("urlize", "wordwrap", "xmlattr", "pprint", "striptags", "random")


class _Generation(jinja2.ext.Extension):
    """Transformers' `{% generation %}` block: it says which text is trained."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_generated"), [], [], body).set_lineno(line)

    def _generated(self, caller: Callable[[], str]) -> str:
        text = caller()
        shown = getattr(self.environment, "shows_generation", False)
        return GENERATED[0] + text + GENERATED[1] if shown else text


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**", "+", "%"))

    def __init__(self, now: datetime) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
        self.budget = Budget()
        self.shows_generation = False
        for name in _NOT_FOR_CHATS:
            del self.filters[name]
        self.filters["tojson"] = _tojson
        tables: list[dict[str, Any]] = [self.filters, self.tests]
        for table in tables:
            table.update({name: self._checked(name, function) for name, function in table.items()})
        self.filters["_counted"] = self._counted
        self.filters["_bounded"] = self._bounded
        self.filters["_weighed"] = self._weighed
        self.globals = {
            "range": self.globals["range"],
            "dict": self.globals["dict"],
            "cycler": self.globals["cycler"],
            "joiner": self.globals["joiner"],
            "namespace": _Namespace,
            "raise_exception": _refuse,
            "strftime_now": functools.partial(_date, now),
        }

    def call(self, *args: Any, **named: Any) -> Any:
        context, function, *rest = args
        return self.budget.bounded(super().call(context, function, *self.budget.call(function, rest, named), **named))

    def wrap_str_format(self, value: Any) -> Any:
        owner = getattr(value, "__self__", None)
        if isinstance(owner, str) and getattr(value, "__name__", "") in ("format", "format_map"):
            refuse_format(owner)
        return super().wrap_str_format(value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            return self.budget.bounded(left + right)
        refuse_operation(operator, left, right)
        if operator == "%":
            self.budget.weighed(right)
        return self.budget.bounded(super().call_binop(context, operator, left, right))

    @jinja2.pass_context  # so that nothing is worked out while the template is compiled
    def _counted(self, _: Any, values: Any) -> Any:
        return self.budget.counted(values)

    @jinja2.pass_context
    def _bounded(self, _: Any, value: Any) -> Any:
        return self.budget.bounded(value)

    @jinja2.pass_context
    def _weighed(self, _: Any, value: Any) -> Any:
        return self.budget.weighed(value)

    def _checked(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        place = 1 if hasattr(function, "jinja_pass_arg") else 0

        @functools.wraps(function)
        def call(*args: Any, **named: Any) -> Any:
            if len(args) > place:
                value = self.budget.filtered(name, args[place], args[place + 1 :], named)
                args = (*args[:place], value, *args[place + 1 :])
            return self.budget.bounded(function(*args, **named))

        return call


class _Namespace(Namespace):
    """Jinja's, without names that begin with an underscore, as in Transformers."""

    def __init__(*args: Any, **named: Any) -> None:
        self, *rest = args
        for name in dict(*rest, **named):
            _refuse_hidden(name)
        Namespace.__init__(self, *rest, **named)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_hidden(name)
        super().__setitem__(name, value)


class _Bounds(NodeTransformer):
    """Sends every loop's values, and every text that is written, joined, cut or compared, through the environment's bounds."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _through("_counted", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_weighed(child) for child in node.nodes]
        return _through("_bounded", node)

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_through("_weighed", child) for child in node.nodes]
        return node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        return nodes.Const(node.data, lineno=node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        # a comparison with a constant goes no deeper than the constant
        is_flat = len(node.ops) == 1 and (_is_plain(node.expr) or _is_plain(node.ops[0].expr))
        weigh = _bounded if is_flat else _weighed
        node.expr = weigh(node.expr)
        for operand in node.ops:
            operand.expr = weigh(operand.expr)
        return node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        for pair in node.items:
            pair.key = _weighed(pair.key)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _through("_bounded", node)
        node.arg = _weighed(node.arg)
        return node


def _is_plain(node: nodes.Expr) -> bool:
    """Whether an expression is a constant, or a list of some."""
    return isinstance(node, nodes.Const) or (
        isinstance(node, nodes.List | nodes.Tuple) and all(isinstance(item, nodes.Const) for item in node.items)
    )


def _weighed(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _through("_weighed", node)


def _bounded(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _through("_bounded", node)


def _through(name: str, node: Any) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Made(NamedTuple):
    environment: _Environment
    template: jinja2.Template
    dates: str
    reads: frozenset[str]
    named: frozenset[str]


class Program:
    """A compiled template. It can be sent to another process, where it is told the same day."""

    def __init__(self, source: str, name: str, now: datetime | None = None) -> None:
        """Raises TemplateError for what is not Jinja."""
        self._source, self._name = source, name
        self._now = (now or datetime.now()).replace(hour=0, minute=0, second=0, microsecond=0)
        if len(source) > _MAX_SOURCE:
            raise TemplateError(f"template {name}: is longer than {_MAX_SOURCE} characters")
        environment = _Environment(self._now)
        try:
            tree = environment.parse(source)
            if any(isinstance(c.value, int) and c.value > MAX_CHARS for c in tree.find_all(nodes.Const)):
                raise TemplateError(f"template {name}: has a number above {MAX_CHARS}")
            reads, named = frozenset(name.name for name in tree.find_all(nodes.Name)), _words_in(tree)
            dates = self._now.date().isoformat() if "strftime_now" in reads else ""
            template = environment.from_string(_Bounds().visit(tree))
        except (jinja2.TemplateError, RecursionError, MemoryError, SyntaxError) as error:
            raise TemplateError(f"template {name}: {error} (line {getattr(error, 'lineno', '?')})") from error
        self._made = _Made(environment, template, dates, reads, named)

    def __reduce__(self) -> tuple[type[Program], tuple[str, str, datetime]]:
        return Program, (self._source, self._name, self._now)

    @property
    def dates(self) -> str:
        """The day that the template is told: '' where it asks for none. It belongs to what decides the text."""
        return self._made.dates

    @property
    def reads(self) -> frozenset[str]:
        """The names of all variables in the template."""
        return self._made.reads

    @property
    def named(self) -> frozenset[str]:
        """The words that the template's code holds, in lower case: its texts and the names of attributes."""
        return self._made.named

    def render(self, shows_generation: bool = False, **variables: Any) -> str:
        """The text, with `GENERATED` around its generation blocks if asked for.

        Raises TemplateError, or whatever the template's own code raises.
        """
        environment, template = self._made.environment, self._made.template
        environment.budget.steps_left = MAX_STEPS
        environment.shows_generation = shows_generation
        parts, size = [], 0
        for part in template.generate(**variables):
            size += len(part)
            refuse_beyond(size, MAX_CHARS)
            parts.append(part)
        return "".join(parts)


def _words_in(tree: nodes.Template) -> frozenset[str]:
    texts = (const.value for const in tree.find_all(nodes.Const) if isinstance(const.value, str))
    return frozenset(word.lower() for word in (*texts, *(part.attr for part in tree.find_all(nodes.Getattr))))


def _date(now: datetime, text: str) -> str:
    refuse_format(text, WIDE_DATE)
    return now.strftime(text)


def _refuse(message: str) -> None:
    raise TemplateError(f"the template itself refuses: {message}")


def _refuse_hidden(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise TemplateError(f"a namespace can't hold {name!r}")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
