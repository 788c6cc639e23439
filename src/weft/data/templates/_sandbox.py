"""Jinja as Transformers sets it up, but so that a template can reach nothing outside itself and always comes to an end.

Loop passes and calls are counted, and no value may grow beyond a bound; what goes beyond is refused as a TemplateError.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox
from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from weft.errors import TemplateError

MAX_CHARS = 1 << 26
"""The longest text or list that a template may make, and the largest number."""

_SIZED = (str, bytes, list, tuple)
_STEPS = 4_000_000
_STEPS_OF_A_CALL = 20


class _Generation(jinja2.ext.Extension):
    """Transformers' `{% generation %}` block: its content is kept, its meaning is not needed here."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("*", "**", "+", "%"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
        self.steps_left = _STEPS
        self.filters["tojson"] = _tojson
        self.filters = {name: _checked(function) for name, function in self.filters.items()}
        self.filters["_counted"] = self._counted
        self.filters["_bounded"] = _bounded
        now = datetime.now()  # one moment for all texts: a run must not change at midnight
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = now.strftime

    def call(self, *args: Any, **kwargs: Any) -> Any:
        self._spend(_STEPS_OF_A_CALL)
        return _bounded(super().call(*args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            return _bounded(left + right)
        if operator == "*":
            _bounded(_size(left) * _size(right))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _bounded(abs(left).bit_length() * abs(right))
        return _bounded(super().call_binop(context, operator, left, right))

    def _counted(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self._spend(1)
            yield value

    def _spend(self, steps: int) -> None:
        self.steps_left -= steps
        if self.steps_left < 0:
            raise TemplateError(f"it takes more than {_STEPS} steps for one conversation; stopped")


class _Bounds(NodeTransformer):
    """Sends every loop's values and every `~` through the environment's bounds."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Filter(node, "_bounded", [], [], None, None, lineno=node.lineno)


class Program:
    """A compiled template."""

    def __init__(self, source: str, name: str) -> None:
        """Raises TemplateError for what is not Jinja."""
        self._environment = _Environment()
        try:
            tree = _Bounds().visit(self._environment.parse(source))
            if any(isinstance(c.value, int) and c.value > MAX_CHARS for c in tree.find_all(nodes.Const)):
                raise TemplateError(f"template {name}: has a number above {MAX_CHARS}")
            self._template = self._environment.from_string(tree)
        except (jinja2.TemplateError, RecursionError) as error:
            raise TemplateError(f"template {name}: {error} (line {getattr(error, 'lineno', '?')})") from error

    def render(self, **variables: Any) -> str:
        """The text. Raises TemplateError, or whatever the template's own code raises."""
        self._environment.steps_left = _STEPS
        parts, size = [], 0
        for part in self._template.generate(**variables):
            size += len(part)
            if size > MAX_CHARS:
                raise TemplateError(f"it writes more than {MAX_CHARS} characters; stopped")
            parts.append(part)
            self._environment._spend(1)
        return "".join(parts)


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return _bounded(function(*args, **kwargs))

    return call


def _bounded(value: Any) -> Any:
    if _size(value) > MAX_CHARS:
        raise TemplateError(f"it makes a value beyond {MAX_CHARS}; stopped")
    return value


def _size(value: Any) -> int:
    if isinstance(value, _SIZED):
        return len(value)
    return abs(value) if isinstance(value, int) else 1


def _refuse(message: str) -> None:
    raise TemplateError(f"the template itself refuses: {message}")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
