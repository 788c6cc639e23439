"""XTuner's own form: `conversation`, a list of turns with `system`, `input` and `output`.

A turn's `output_with_loss` says whether its output is trained. One turn without a system message and with an empty input is
a document, as XTuner writes texts for further pre-training.
"""

from __future__ import annotations

from weft.data.formats import Format, RowError, check, fields, optional_text, text_of, to_imitate
from weft.data.formats._turns import turns
from weft.data.parse import kind_of
from weft.types import TEXT_ROLE, Conversation, JsonValue, Message


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and isinstance(row.get("conversation"), list)


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    messages: list[Message] = []
    listed = list(turns(fields(row), "conversation"))
    for where, turn in listed:
        system, question, answer = (
            optional_text(turn, "system"),
            optional_text(turn, "input"),
            text_of(turn, "output", where),
        )
        trained = turn.get("output_with_loss")
        if trained is not None and not isinstance(trained, bool):
            raise RowError("wrong_type", f"{where}output_with_loss is {kind_of(trained)}; expected true or false")
        weight = None if trained is None else float(trained)
        if len(listed) == 1 and not system and not question:
            return check(Conversation((Message(TEXT_ROLE, answer, weight),)))
        if system:
            messages.append(Message("system", system))
        messages += [Message("user", question), Message("assistant", answer, weight)]
    return check(Conversation(tuple(messages)))


FORMAT = Format(
    name="xtuner",
    order=45,
    fits=fits,
    convert=convert,
    examples=(
        {
            "conversation": [
                {"system": "Be brief.", "input": "1 + 1?", "output": "2"},
                {"input": "And 2 + 2?", "output": "4", "output_with_loss": True},
            ]
        },
        {"conversation": [{"input": "", "output": "It rains."}]},
    ),
)
