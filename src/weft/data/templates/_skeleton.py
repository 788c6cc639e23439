"""Where a Jinja template writes what: its own text for one frame of a conversation, and which of it the model writes.

A frame is all of a conversation that may change the template's own text: the roles, which messages have a content and reasoning, the
tools, the calls. The frame is rendered with a placeholder for each content. What stands between the placeholders is the template's;
an answer begins where the prompt that generation shows ends (rendered too), and ends with its stop token.

    S     <|im_start|>user⏎ ⦗0⦘ <|im_end|>⏎<|im_start|>assistant⏎ ⦗1⦘ <|im_end|>⏎
    P_1   <|im_start|>user⏎ ⦗0⦘ <|im_end|>⏎<|im_start|>assistant⏎        S must begin with it
    answer 1                                                     [⦗1⦘ <|im_end|>]
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

from weft.data.templates._left_out import check_calls, check_offer
from weft.data.templates._sandbox import GENERATED
from weft.errors import TemplateError
from weft.types import JsonObject, JsonValue, Message

_MARK = re.compile("\u2997([rc]?)(\\d+)\u2998")
_GENERATED = re.compile("|".join(map(re.escape, GENERATED)))

Control = Callable[[str], str | None]
"""The first control token in a text."""
Render = Callable[["Frame", bool], str]
"""The text of a frame, without or with the start of an answer; generation blocks are marked in the first."""


class Slot(NamedTuple):
    """What a placeholder stands for: '' a message's content, 'r' its reasoning, 'c' a control token's text in a tool's data."""

    kind: str
    number: int


class Frame(NamedTuple):
    """`turns`: each message as JSON, with placeholders. `offer`: tools and documents as JSON ('' where there are none)."""

    turns: tuple[str, ...]
    offer: str

    def until(self, number: int) -> Frame:
        return Frame(self.turns[:number], self.offer)

    @property
    def num_chars(self) -> int:
        return len(self.offer) + sum(map(len, self.turns))

    def variables(self) -> dict[str, Any]:
        """What the template is given."""
        given = {"messages": [json.loads(turn) for turn in self.turns], "tools": None, "documents": None}
        return given | (json.loads(self.offer) if self.offer else {})


class Segment(NamedTuple):
    """A stretch of the template's own text, or a slot. `answer` is the message that it is part of an answer of, or -1."""

    text: str
    slot: Slot | None
    answer: int
    cut: bool


class Skeleton(NamedTuple):
    """The segments of a frame, and why answers (by message) can't be trained."""

    segments: tuple[Segment, ...]
    faults: Mapping[int, str]


def turn_of(message: Message) -> JsonObject:
    """A message as Transformers hands it to a template."""
    turn: JsonObject = {"role": message.role, "content": message.content}
    if message.reasoning:
        turn |= {"reasoning_content": message.reasoning, "thinking": message.reasoning}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **({"id": call.id} if call.id else {}),
            }
            for call in message.tool_calls
        ]
    if message.name:
        turn["name"] = message.name
    if message.call_id:
        turn["tool_call_id"] = message.call_id
    return turn


def frame_of(
    messages: Sequence[Message], tools: Sequence[JsonObject], documents: Sequence[JsonObject], control: Control
) -> tuple[Frame, list[str]]:
    """A conversation's frame, and what its 'c' slots stand for."""
    hidden: list[str] = []

    def mask(value: JsonValue) -> JsonValue:
        if isinstance(value, str):
            return _hide(value, control, hidden)
        if isinstance(value, list):
            return [mask(item) for item in value]
        return {str(mask(k)): mask(v) for k, v in value.items()} if isinstance(value, dict) else value

    offer = ""
    if tools or documents:
        given: JsonObject = {}
        if tools:
            given["tools"] = [mask(tool) for tool in tools]
        if documents:
            given["documents"] = [mask(document) for document in documents]
        offer = json.dumps(given)
    turns = []
    for number, message in enumerate(messages):
        bare = not (message.reasoning or message.tool_calls or message.name or message.call_id)
        if bare:
            turns.append(f'{{"role": {json.dumps(message.role)}, "content": "\u2997{number}\u2998"}}')
            continue
        turn = turn_of(message)
        fixed = {key: turn.pop(key) for key in ("content", "reasoning_content", "thinking") if key in turn}
        turn = cast(JsonObject, mask(turn))
        turn["content"] = f"\u2997{number}\u2998" if message.content or not message.tool_calls else ""
        turn |= {key: f"\u2997r{number}\u2998" for key in fixed if key != "content"}
        turns.append(json.dumps(turn))
    return Frame(tuple(turns), offer), hidden


def _hide(text: str, control: Control, hidden: list[str]) -> str:
    """A text with a slot in the place of each control token that it spells (and of what looks like a slot)."""
    parts: list[str] = []
    while True:
        found = [name for name in (control(text), "\u2997" if "\u2997" in text else None) if name]
        if not found:
            return "".join([*parts, text])
        first = min(found, key=text.index)
        before, _, text = text.partition(first)
        parts.append(f"{before}\u2997c{len(hidden)}\u2998")
        hidden.append(first)


def skeleton_of(
    name: str, frame: Frame, generate: bool, render: Render, control: Control, stop: str | None
) -> Skeleton:
    """The skeleton of a frame. `stop` is the token that ends plain answers, where that is known.

    Raises TemplateError where a content is left out or written twice, or an offered tool left out.
    """
    text, blocks = _without_blocks(render(frame, generate))
    messages = [json.loads(turn) for turn in frame.turns]
    marks = {Slot(found[1], int(found[2])): found.span() for found in _MARK.finditer(text)}
    faults: dict[int, str] = {}
    _check_marks(name, text, messages, faults)
    spans: dict[int, tuple[int, int]] = {}
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        try:
            begin = _begin(name, frame, number, text, render)
            end = _end(name, frame, number, message, text, begin, marks, render, control, stop)
            _check_answer(name, message, number, text[begin:end])
            spans[number] = begin, end
        except TemplateError as error:
            faults.setdefault(number, str(error))
    if blocks and not generate:
        _check_blocks(name, text, blocks, spans, faults)
    if frame.offer:
        borders = [0, *(place for number in sorted(spans) for place in spans[number]), len(text)]
        outside = "\n".join(text[begin:end] for begin, end in zip(borders[::2], borders[1::2], strict=True))
        check_offer(name, json.loads(frame.offer).get("tools", ()), outside)
    return Skeleton(tuple(_segments(text, marks, spans)), faults)


def fill(skeleton: Skeleton, values: Mapping[Slot, str]) -> str:
    """The text of a skeleton with its slots filled."""
    return "".join(s.text if s.slot is None else values[s.slot] for s in skeleton.segments)


def plain_text(text: str) -> str:
    """A rendered text without the marks of generation blocks."""
    return _without_blocks(text)[0]


def _without_blocks(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without the marks of generation blocks, and where those were."""
    parts: list[str] = []
    places: list[int] = []
    last = size = 0
    for found in _GENERATED.finditer(text):
        parts.append(text[last : found.start()])
        size += len(parts[-1])
        places.append(size)
        last = found.end()
    return "".join([*parts, text[last:]]), list(zip(places[::2], places[1::2], strict=True))


def _check_marks(name: str, text: str, messages: Sequence[JsonObject], faults: dict[int, str]) -> None:
    """Every content is written exactly once. Reasoning that is left out is a fault only where its answer is trained."""
    roles = ", ".join(str(message["role"]) for message in messages[:8]) + (", …" if len(messages) > 8 else "")
    for number, message in enumerate(messages):
        for key, what in (("content", "content"), ("reasoning_content", "reasoning")):
            mark = str(message.get(key, ""))
            times = text.count(mark) if mark else 1
            if times == 1:
                continue
            detail = (
                f"template {name}: the {what} of message {number + 1} ({message['role']}) appears {times} times or out of order in a "
                f"conversation of {roles}"
            )
            if what == "content" or times > 1:
                raise TemplateError(detail)
            faults[number] = detail


def _begin(name: str, frame: Frame, number: int, text: str, render: Render) -> int:
    """How much of the text before an answer generation shows; the rest the model writes itself, so it is trained."""
    shown = render(frame.until(number), True)
    if text.startswith(shown):
        return len(shown)
    place = _difference(shown, text)
    raise TemplateError(
        f"template {name}: the prompt before answer {number + 1} is not what training shows: at character {place} of its own text "
        f"generation writes {shown[place : place + 40]!r}, training {text[place : place + 40]!r}"
    )


def _end(
    name: str,
    frame: Frame,
    number: int,
    message: JsonObject,
    text: str,
    begin: int,
    marks: Mapping[Slot, tuple[int, int]],
    render: Render,
    control: Control,
    stop: str | None,
) -> int:
    """Where an answer ends: behind the control token that follows it."""
    own = [marks[slot][1] for slot in (Slot("", number), Slot("r", number)) if slot in marks]
    after = max([begin, *own])
    following = [start for slot, (start, _) in marks.items() if slot.kind != "c" and start >= after]
    behind = text[after : min(following, default=len(text))]
    if message.get("tool_calls"):
        # the calls' own text may hold control tokens: the answer ends with the known stop token, or the last one of its turn
        turn, _ = _without_blocks(render(frame.until(number + 1), False))
        behind = behind[: max(0, _difference(turn, text) - after)]
        if stop is not None and stop in behind:
            return after + behind.index(stop) + len(stop)
        last = None
        place = 0
        while (found := control(behind[place:])) is not None:
            place += behind[place:].index(found) + len(found)
            last = after + place
        if last is not None:
            return last
    else:
        found = control(behind)
        if found is not None:
            return after + behind.index(found) + len(found)
    raise TemplateError(
        f"template {name}: no control token ends an answer (it is followed by {behind[:40]!r}), so the model could never learn to stop; "
        "use another template"
    )


def _check_answer(name: str, message: JsonObject, number: int, answer: str) -> None:
    """What is trained holds nobody else's text, and all calls."""
    strange = [f for f in _MARK.finditer(answer) if f[1] != "c" and int(f[2]) != number]
    if strange:
        raise TemplateError(
            f"template {name}: the text of message {int(strange[0][2]) + 1} stands in answer {number + 1}, where it would be trained"
        )
    check_calls(name, cast("list[JsonObject]", message.get("tool_calls", [])), number, answer)


def _check_blocks(
    name: str,
    text: str,
    blocks: Sequence[tuple[int, int]],
    spans: Mapping[int, tuple[int, int]],
    faults: dict[int, str],
) -> None:
    """The template's own generation blocks must say the same."""
    for number, (begin, end) in spans.items():
        block = next((b for b in blocks if b[0] < end and begin < b[1]), None)
        if block == (begin, end):
            continue
        place = begin if block is None or block[0] != begin else min(block[1], end)
        said = "nothing" if block is None else repr(text[block[0] : block[1]][:60])
        faults.setdefault(
            number,
            f"template {name}: its generation block and the mask of answer {number + 1} differ from character {place} of its own text on "
            f"({text[place : place + 40]!r}): the block trains {said}, the mask {text[begin:end][:60]!r}",
        )
    for block in blocks:
        if not any(block[0] < end and begin < block[1] for begin, end in spans.values()):
            detail = f"template {name}: its generation block trains {text[block[0] : block[1]][:60]!r}, which no answer holds"
            for number in spans:
                faults.setdefault(number, detail)


def _segments(text: str, marks: Mapping[Slot, tuple[int, int]], spans: Mapping[int, tuple[int, int]]) -> list[Segment]:
    slots = {span: slot for slot, span in marks.items()}
    borders = {place for span in spans.values() for place in span}
    places = sorted({0, len(text), *borders, *(place for span in slots for place in span)})
    segments = []
    for begin, end in pairwise(places):
        answer = next((number for number, span in spans.items() if span[0] <= begin and end <= span[1]), -1)
        segments.append(Segment(text[begin:end], slots.get((begin, end)), answer, begin in borders))
    return segments


def _difference(one: str, other: str) -> int:
    """The first place where two texts differ; the length of the shorter where it begins the other."""
    if other.startswith(one):
        return len(one)
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
