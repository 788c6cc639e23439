"""OpenAI's messages: role and content, in `messages` or as a bare list.

A message's own `train` (true or false), `weight` or `loss_weight` (a number) says how much its tokens are trained.
Content is a string or a list of text parts. XTuner's role `pretrain` is a document.
"""

from __future__ import annotations

from weft.data.formats import Format, RowError, check, text_of
from weft.data.formats._turns import turns
from weft.data.parse import kind_of
from weft.types import TEXT_ROLE, Conversation, JsonObject, JsonValue, Message

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "pretrain": TEXT_ROLE,
}


def fits(row: JsonValue) -> bool:
    if isinstance(row, list):
        return bool(row) and isinstance(row[0], dict) and "role" in row[0] and "content" in row[0]
    return isinstance(row, dict) and "messages" in row


def convert(row: JsonValue) -> Conversation:
    return check(Conversation(tuple(_message(where, turn) for where, turn in turns(row, "messages"))))


def _message(where: str, turn: JsonObject) -> Message:
    role = text_of(turn, "role", where)
    if role not in ROLES:
        raise RowError("unknown_role", f"{where}role is {role[:40]!r}; known: {', '.join(ROLES)}")
    if turn.get("tool_calls") or turn.get("function_call"):
        raise RowError("tools_unsupported", f"{where[:-1]} calls a tool, which can't be rendered yet")
    if turn.get("reasoning_content"):
        raise RowError("unsupported_part", f"{where}reasoning_content would be left out")
    return Message(ROLES[role], _content(where, turn), _weight(where, turn))


def _content(where: str, turn: JsonObject) -> str:
    content = turn.get("content")
    if not isinstance(content, list):
        return text_of(turn, "content", where)
    texts = []
    for number, part in enumerate(content, 1):
        place = f"{where}content[{number}]"
        if not isinstance(part, dict):
            raise RowError("wrong_type", f"{place} is {kind_of(part)}; expected an object")
        kind = part.get("type")
        if kind in ("tool_call", "tool_calls", "tool_use", "tool_result"):
            raise RowError("tools_unsupported", f"{place} is a {kind}, which can't be rendered yet")
        if kind != "text":
            shown = repr(kind[:40]) if isinstance(kind, str) else kind_of(kind)
            raise RowError("unsupported_part", f"{place}.type is {shown}; only 'text' is read")
        # OpenAI calls it `text`, LLaMA-Factory `value`
        texts.append(text_of(part, "value" if "value" in part and "text" not in part else "text", f"{place}."))
    return "".join(texts)


def _weight(where: str, turn: JsonObject) -> float | None:
    found: dict[str, float] = {}
    for key in ("train", "weight", "loss_weight"):
        value = turn.get(key)
        if value is None:
            continue
        if isinstance(value, bool) is not (key == "train") or not isinstance(value, bool | int | float):
            expected = "true or false" if key == "train" else "a number"
            raise RowError("wrong_type", f"{where}{key} is {kind_of(value)}; expected {expected}")
        try:
            found[key] = float(value)
        except OverflowError:
            raise RowError("bad_weight", f"{where}{key} is too large a number") from None
    if len(set(found.values())) > 1:
        raise RowError("bad_weight", f"{where[:-1]} contradicts itself: {found}")
    return next(iter(found.values()), None)


FORMAT = Format(
    name="messages",
    order=40,
    fits=fits,
    convert=convert,
    examples=(
        {"messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]},
        [{"content": "1 + 1?\n", "role": "user"}, {"content": "2", "role": "assistant"}],
        {
            "messages": [
                {"role": "system", "content": "Be brief.", "loss_weight": 0.0},
                {"role": "user", "content": [{"type": "text", "text": "1 + "}, {"type": "text", "value": "1?"}]},
                {"role": "assistant", "content": "3", "train": False},
                {"role": "user", "content": "Are you sure?"},
                {"role": "assistant", "content": "No, 2.", "weight": 1},
            ],
        },
        {
            "messages": [
                {"role": "user", "content": "Is it raining?"},
                {"role": "assistant", "content": "look_outside()"},
                {"role": "tool", "content": "rain"},
                {"role": "assistant", "content": "Yes."},
            ],
        },
        {"messages": [{"role": "pretrain", "content": "It rains."}]},
    ),
)
