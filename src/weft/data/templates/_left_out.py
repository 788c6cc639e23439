"""Whether a Jinja template wrote all of the calls and tools that it was given: names, and what the arguments hold.

Templates write them in many ways, so what is looked for is each name, key, text and number in the ways that text and JSON have, as often
as it is there. The longest comes first, and what is found is taken out: `get` is not found in `get_weather`.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from weft.errors import TemplateError
from weft.types import JsonObject, JsonValue

_LONG = 100
"""Characters beyond which a text is looked for as it is: a pattern of it would take long to make, and nothing else looks like it."""
_TAKEN = "\u2999"
"""Stands where something was found: no letter, no digit."""


class _Part(NamedTuple):
    """What must be written. Numbers are kept apart from texts that look the same."""

    what: str
    value: str


def check_calls(name: str, calls: Sequence[JsonObject], number: int, answer: str) -> None:
    """Raises TemplateError where an answer does not hold all of its calls."""
    functions = [cast(JsonObject, call["function"]) for call in calls]
    place = 0
    for function in functions:
        called = str(function["name"])
        found = _pattern(called).search(answer, place)
        if found is None:
            raise TemplateError(f"template {name}: leaves out the call of {called} in answer {number + 1}")
        place = found.end()
    parts = Counter(_Part("name", str(function["name"])) for function in functions)
    for function in functions:
        parts.update(_parts(function["arguments"]))
    for part, times in sorted(parts.items(), key=lambda item: -len(item[0].value)):
        answer, found_times = _take(part, answer)
        if found_times < times:
            shown = part.value if part.what == "number" else repr(part.value[:60])
            raise TemplateError(
                f"template {name}: leaves out the {part.what} {shown} of a call of "
                f"{', '.join(str(f['name']) for f in functions)} in answer {number + 1}: it is written {found_times} times, not {times}"
            )


def check_offer(name: str, tools: Sequence[JsonObject], text: str) -> None:
    """Raises TemplateError where the name of a tool is not in a text. Tools without a name are not looked for."""
    offered = set()
    for tool in tools:
        function = tool.get("function")
        offered.add((function if isinstance(function, dict) else tool).get("name"))
    for called in sorted((c for c in offered if isinstance(c, str)), key=len, reverse=True):
        text, times = _pattern(called).subn(_TAKEN, text)
        if not times and called.strip():
            raise TemplateError(f"template {name}: leaves out the tool {called}, which is offered")


def _parts(value: JsonValue) -> Iterator[_Part]:
    """The keys, texts and numbers in a call's arguments."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from (_Part("argument", key),) if key.strip() else ()
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)
    elif isinstance(value, str):
        yield from (_Part("argument", value),) if value.strip() else ()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield _Part("number", json.dumps(value))


def _take(part: _Part, text: str) -> tuple[str, int]:
    """A text without a part, and how often the part was in it."""
    if part.what == "number":
        return _number(part.value).subn(_TAKEN, text)
    if len(part.value) <= _LONG:
        return _pattern(part.value).subn(_TAKEN, text)
    times = 0
    for form in _forms(part.value):
        times += text.count(form)
        text = text.replace(form, _TAKEN)
    return text, times


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile("|".join(map(_apart, _forms(text))) or r"(?!)")


def _forms(text: str) -> list[str]:
    """A text as templates may write it: as it is, in JSON (in JSON), as Python shows it, escaped for HTML, trimmed."""
    forms: list[str] = []
    for one in {text, text.strip()}:
        quoted = [one, json.dumps(one, ensure_ascii=False)[1:-1], json.dumps(one)[1:-1]]
        forms += [*quoted, repr(one)[1:-1], *(json.dumps(form, ensure_ascii=False)[1:-1] for form in quoted)]
    forms += [html.escape(form).replace("&quot;", "&#34;").replace("&#x27;", "&#39;") for form in forms]
    forms += [form.replace("\\'", "'") for form in forms]
    return sorted(set(filter(None, forms)), key=len, reverse=True)


def _apart(form: str) -> str:
    """A form with no further letter or digit beside it."""
    before = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))" if form[0].isascii() and form[0].isalnum() else ""
    return before + re.escape(form) + (r"(?![A-Za-z0-9])" if form[-1].isascii() and form[-1].isalnum() else "")


def _number(text: str) -> re.Pattern[str]:
    return re.compile(r"(?<![A-Za-z0-9.])" + re.escape(text) + r"(?![A-Za-z0-9]|\.[0-9])")
