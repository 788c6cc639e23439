from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import need_shared
from weft.errors import ConfigError, DataError
from weft.generation.batch import generate
from weft.generation.chat import ChatSession
from weft.generation.decoding import Decoding
from weft.generation.model import open_model
from weft.generation.text import prompt_ids
from weft.types import Message

TWELVE = Decoding(max_new_tokens=12)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral-sliding"])
def test_every_turn_streams_what_a_batch_would_answer(kind: str, model_folder: Callable[[str], Path]) -> None:
    loaded = open_model(model_folder(kind))
    session = ChatSession(loaded, "You help.", TWELVE)
    for text in ("Hello", "And 你好?", "x"):
        asked = [*session.messages, Message("user", text)]
        streamed = "".join(session.ask(text))
        expected = generate(loaded, [asked], TWELVE)[0]
        assert (streamed, session.stopped) == (expected.text, expected.stopped)
        assert session.messages[-1] == Message("assistant", streamed)


def test_the_cache_is_used_again_only_for_the_same_beginning() -> None:
    loaded = open_model(need_shared("models", "stories260K"))
    session = ChatSession(loaded, decoding=TWELVE)
    list(session.ask("Tell me of a dog."))
    assert session.reused_tokens == 0
    list(session.ask("And a cat."))
    whole = [*session.messages]
    reused = session.reused_tokens
    assert reused >= len(prompt_ids(loaded, whole[:1]))
    session.messages[0] = Message("user", "Tell me of a fox.")
    asked = [*session.messages, Message("user", "And then?")]
    answer = "".join(session.ask("And then?"))
    assert session.reused_tokens == 0
    assert answer == generate(loaded, [asked], TWELVE)[0].text


def test_the_oldest_turns_are_forgotten_with_a_notice(model_folder: Callable[[str], Path]) -> None:
    loaded = open_model(model_folder("llama"))
    notices: list[str] = []
    session = ChatSession(loaded, "You help.", TWELVE, notices.append)
    for number in range(12):
        list(session.ask(f"Question {number} " + "word " * 20))
    assert notices
    assert session.messages[0] == Message("system", "You help.")
    assert session.messages[1].role == "user"
    assert len(prompt_ids(loaded, session.messages[:-1])) + TWELVE.max_new_tokens <= 512


def test_a_turn_that_is_too_long_alone_costs_nothing_else(model_folder: Callable[[str], Path]) -> None:
    session = ChatSession(open_model(model_folder("llama")), decoding=TWELVE)
    list(session.ask("Hello"))
    before = list(session.messages)
    with pytest.raises(DataError, match="reads 512"):
        session.ask("very " * 1000)
    assert session.messages == before


def test_an_answer_that_is_not_read_to_its_end_stays_as_far_as_it_went(model_folder: Callable[[str], Path]) -> None:
    loaded = open_model(model_folder("llama"))
    session = ChatSession(loaded, decoding=TWELVE)
    with closing(session.ask("Hello")) as pieces:  # type: ignore[type-var]
        first = next(pieces)
    assert session.stopped == "interrupted"
    assert session.messages[-1].content.startswith(first)
    asked = [*session.messages, Message("user", "go on")]
    assert "".join(session.ask("go on")) == generate(loaded, [asked], TWELVE)[0].text


def test_ctrl_c_inside_the_model_leaves_no_half_written_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = open_model(need_shared("models", "stories260K"))
    session = ChatSession(loaded, decoding=TWELVE)
    list(session.ask("Hello"))
    with monkeypatch.context() as patch:
        patch.setattr(loaded.model.model.layers[1], "forward", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(session.ask("x"))
    assert session.reused_tokens > 0
    assert [m.role for m in session.messages] == ["user", "assistant"]
    asked = [*session.messages, Message("user", "x")]
    assert "".join(session.ask("x")) == generate(loaded, [asked], TWELVE)[0].text
    assert session.reused_tokens == 0


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_again_answers_the_last_turn_once_more_and_reset_forgets(model_folder: Callable[[str], Path]) -> None:
    session = ChatSession(open_model(model_folder("llama")), decoding=TWELVE)
    with pytest.raises(DataError, match="no turn"):
        session.again()
    first = "".join(session.ask("Hello"))
    assert "".join(session.again()) == first  # greedy
    assert len(session.messages) == 2
    session.reset("Be brief.")
    assert session.messages == [Message("system", "Be brief.")]


def test_beams_are_refused_where_they_would_have_to_stream(model_folder: Callable[[str], Path]) -> None:
    session = ChatSession(open_model(model_folder("llama")), decoding=Decoding(num_beams=2))
    with pytest.raises(ConfigError, match="streamed"):
        list(session.ask("Hello"))
