"""What a template may spend: steps, characters, list items, numbers. Whatever would go beyond is refused before it is made.

The one idea: Python's own operations are fast but some make gigabytes in one call. So what such a call would make is worked out from
its arguments first; and everything that is read or made costs steps by its size, so what is not large costs many steps instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from jinja2.runtime import Macro
from jinja2.utils import Namespace

from weft.errors import TemplateError

MAX_CHARS = 1 << 23
"""The longest text that a template may make, and the largest number."""
MAX_ITEMS = 1 << 18
"""The longest list."""
MAX_STEPS = 1_500_000
"""Loop passes, calls and pieces of text that a template may spend on one conversation."""

_STEPS_OF_A_CALL = 25
_CHARS_OF_A_STEP = 32
_MAX_INDENT = 64
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(\d{5,}|\*)")
WIDE_DATE = re.compile(r"%[^a-zA-Z%]*\d{3,}")
_WIDE_BRACES = re.compile(r"\{[^{}]*:[^{}]*(\d{5,}|\{)")
_REFUSED_METHODS = ("translate", "expandtabs", "maketrans")
_ITERATING = (
    "list", "sort", "unique", "map", "select", "reject", "selectattr", "rejectattr", "groupby", "batch", "slice", "sum", "min", "max",
    "reverse", "dictsort", "items", "join",
)  # fmt: skip


_SHALLOW = frozenset((
    "length", "count", "first", "last", "list", "items", "default", "d", "batch", "slice", "reverse", "attr", "map", "select", "reject",
    "selectattr", "rejectattr", "_counted", "_bounded", "_weighed", "defined", "undefined", "none", "mapping", "sequence", "iterable",
    "boolean", "number", "integer", "float", "true", "false", "callable", "sameas", "filter", "test",
))  # fmt: skip
"""Filters and tests that look at no more than the outermost list or object."""
_VIEWS: tuple[Any, ...] = (type({}.keys()), type({}.values()), type({}.items()))


class Budget:
    """Steps that are left, and the checks that spend them."""

    def __init__(self) -> None:
        self.steps_left = MAX_STEPS

    def spend(self, steps: int) -> None:
        self.steps_left -= steps
        if self.steps_left < 0:
            raise TemplateError(f"it takes more than {MAX_STEPS} steps for one conversation; stopped")

    def bounded(self, value: Any) -> Any:
        """The value itself, if it isn't too large; it costs steps by its size."""
        if type(value) is str and len(value) < _CHARS_OF_A_STEP and self.steps_left > 0:
            self.steps_left -= 1  # what is small is what comes most
        elif isinstance(value, (str, bytes)):
            self.spend(1 + len(value) // _CHARS_OF_A_STEP)
            refuse_beyond(len(value), MAX_CHARS)
        elif isinstance(value, (list, tuple, dict)):
            self.spend(1 + len(value))
            refuse_beyond(len(value), MAX_ITEMS)
        elif isinstance(value, int):
            refuse_beyond(abs(value), MAX_CHARS)
        return value

    def weighed(self, value: Any) -> Any:
        """The value itself, if all that it holds isn't too large: for what goes down into it, however often it holds the same list.

        Every part costs a step each time that it is met.
        """
        if not isinstance(value, (list, tuple, dict, Namespace, *_VIEWS)):
            return self.bounded(value)
        waiting, num_chars = [iter((value,))], 0
        while waiting:
            part = next(waiting[-1], _END)
            if part is _END:
                waiting.pop()
                continue
            self.bounded(part)
            if isinstance(part, (str, bytes)):
                num_chars += len(part)
                refuse_beyond(num_chars, MAX_CHARS)
            inner = _inside(part)
            if inner is not None:
                self.spend(1)
                waiting.append(inner)
        return value

    def counted(self, values: Iterable[Any]) -> Iterator[Any]:
        """The values of a loop, each at the price of a step."""
        for value in values:
            self.spend(1)
            yield value

    def listed(self, values: Iterable[Any]) -> Any:
        """An iterator's values as a list; what has a size already, as it is."""
        return values if isinstance(values, (str, list, tuple, dict)) else list(self.counted(values))

    def refuse_join(self, values: Sequence[Any], args: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Refuses to join too much; of values that have parts, the joined part counts."""
        between = args[0] if args else named.get("d", "")
        part = args[1] if len(args) > 1 else named.get("attribute")
        if part is not None:
            if "." in str(part) or not all(isinstance(value, Mapping) for value in values):
                raise TemplateError("it joins parts of what is no object, which is not allowed")
            values = [value.get(part, "") for value in values]
        refuse_method(str(between), "join", (values,), {})

    def call(self, function: Any, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """Checks a call before it is made; gives its arguments, iterators made lists."""
        self.spend(_STEPS_OF_A_CALL)
        args = tuple(self.listed(a) if isinstance(a, Iterator | range) else a for a in args)
        owner = getattr(function, "__self__", None)
        goes_down = not isinstance(function, Macro | type)
        for value in (*args, *named.values()):
            self.weighed(value) if goes_down or function is dict else self.bounded(value)
        if isinstance(owner, list | tuple):
            self.weighed(owner)
        if isinstance(owner, (str, bytes)):
            self.bounded(owner)
            refuse_method(str(owner), getattr(function, "__name__", ""), args, named)
        return args

    def filtered(self, name: str, value: Any, args: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """Checks a filter or test before it is called; gives its value, an iterator made a list where that is the same."""
        if name in _ITERATING and isinstance(value, (str, bytes)):
            self.spend(len(value))
        if name not in _SHALLOW:
            self.weighed(value)
        if name == "join":
            value = self.listed(value)
            self.refuse_join(value, args, named)
        for part in (value, *args, *named.values()):
            self.weighed(part) if name not in _SHALLOW and part is not value else self.bounded(part)
        if name in ("batch", "slice"):
            refuse_beyond(max((a for a in args if isinstance(a, int)), default=0), MAX_ITEMS)
        elif name == "indent":
            width = args[0] if args else named.get("width", 4)
            lines = str(value).count("\n") + 1
            refuse_beyond(len(str(value)) + lines * (len(width) if isinstance(width, str) else int(width)), MAX_CHARS)
        elif name == "tojson":
            refuse_indent(args[1] if len(args) > 1 else named.get("indent"))
        elif name == "format":
            refuse_format(str(value), _WIDE_PERCENT)
        elif name == "replace":
            refuse_method(str(value), name, args, named)
        return value


def refuse_beyond(size: int, limit: int) -> None:
    if size > limit:
        raise TemplateError(f"it makes a value beyond {limit}; stopped")


def refuse_format(text: str, pattern: re.Pattern[str] = _WIDE_BRACES) -> None:
    """Refuses a text to be filled in that asks for very wide fields, or for widths out of values."""
    if pattern.search(text):
        raise TemplateError("it fills in a text with very wide fields; stopped")


def refuse_operation(operator: str, left: Any, right: Any) -> None:
    """Refuses an operation that would make too much. (Numbers that are here are bounded already.)"""
    if operator == "*":
        refuse_beyond(_size(left) * _size(right), MAX_ITEMS if isinstance(left, list | tuple) else MAX_CHARS)
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        refuse_beyond(abs(left).bit_length() * abs(right), 64)
    elif operator == "%" and isinstance(left, str):
        refuse_format(left, _WIDE_PERCENT)
        for value in right if isinstance(right, tuple) else (right,):
            refuse_beyond(_size(value), MAX_CHARS)


def refuse_method(text: str, name: str, args: Sequence[Any], named: Mapping[str, Any]) -> None:
    """Refuses a method of a text that would make too much."""
    if name in _REFUSED_METHODS:
        raise TemplateError(f"it calls {name} on a text, which is not allowed")
    if name == "replace" and len(args) > 1:
        old, new = str(args[0]), str(args[1])
        refuse_beyond(len(text) + text.count(old) * len(new), MAX_CHARS)
    elif name == "join" and args and isinstance(args[0], (str, list, tuple, dict)):
        refuse_beyond(len(args[0]) * len(text) + sum(_size(part) for part in args[0]), MAX_CHARS)
    elif name in ("split", "rsplit", "splitlines"):
        separator = args[0] if args and name != "splitlines" else named.get("sep")
        if isinstance(separator, str) and separator:
            refuse_beyond(text.count(separator), MAX_ITEMS)
        elif name == "splitlines":
            refuse_beyond(sum(text.count(end) for end in _LINE_ENDS), MAX_ITEMS)
        else:
            refuse_beyond(len(text) // 2, MAX_ITEMS)


def refuse_indent(indent: Any) -> None:
    """Refuses JSON that is indented absurdly."""
    if indent is not None:
        refuse_beyond(len(indent) if isinstance(indent, str) else int(indent), _MAX_INDENT)


_END = object()


def _inside(value: Any) -> Iterator[Any] | None:
    """What a list, an object or a namespace holds."""
    if isinstance(value, (list, tuple, _VIEWS)):
        values: Iterable[Any] = value
        return iter(values)
    if isinstance(value, Namespace):
        value = object.__getattribute__(value, "_Namespace__attrs")
    return chain(value.keys(), value.values()) if isinstance(value, dict) else None


def _size(value: Any) -> int:
    if isinstance(value, (str, bytes, list, tuple, dict)):
        return len(value)
    return abs(value) if isinstance(value, int) else 1
