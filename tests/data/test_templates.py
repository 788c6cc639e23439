"""Templates: every file in the folder joins these tests by lying there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.templates_kit import (
    ALL,
    CALL,
    CLOCK,
    CONTROL,
    NATIVE,
    TALK,
    TOOL_TALK,
    WEATHER,
    answer,
    cuts,
    joined,
    make,
    mask,
    plainly,
    tokenizer_with,
    trained,
    written,
)
from weft.data.templates import Template
from weft.data.templates._markers import MarkerTemplate
from weft.data.templates._skeleton import turn_of
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import JsonObject, Message, ToolCall

every_template = pytest.mark.parametrize("name", ALL)
every_native_template = pytest.mark.parametrize("name", NATIVE)
small = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
contents = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<|>"), max_size=15) | st.sampled_from(
    [
        "",
        " ",
        "\n",
        "{{ 1 }}",
        "{% for",
        "'",
        '"',
        "\\n",
        "</s>",
        "<|im_end|>",
        "\r\n",
        "⦗0⦘",
        "\u29970\u2998",
        "\u2997",
    ]
)
TALKS = {
    "one turn": TALK[1:3],
    "two turns": TALK[1:],
    "a system message": TALK[:3],
    "a system message, two turns": TALK,
    "three turns": [*TALK, Message("user", "x"), Message("assistant", "")],
}


@pytest.fixture(scope="session")
def all_tokens(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer with which every template can be built."""
    return tokenizer_with(tokenizer_folder, tmp_path_factory.mktemp("all"), *CONTROL)


@pytest.fixture(scope="session")
def with_bos(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_with(tokenizer_folder, tmp_path_factory.mktemp("bos"), *CONTROL, bos="<bos>")


@pytest.fixture(scope="session")
def build(all_tokens: Tokenizer) -> Callable[..., Template]:
    return lambda name, **settings: make(all_tokens, name, **settings)


def theirs(
    tokenizer: Tokenizer,
    source: str,
    talk: list[Message],
    generate: bool,
    tools: tuple[JsonObject, ...] = (),
    **more: object,
) -> str:
    """The text as Transformers' own apply_chat_template writes it."""
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer.folder / "tokenizer.json"), eos_token="</s>")
    text: str = plain.apply_chat_template(
        [turn_of(m) for m in talk],
        chat_template=source,
        tools=list(tools) or None,
        add_generation_prompt=generate,
        tokenize=False,
        **more,
    )
    return text


# what is trained


@every_template
def test_a_template_trains_the_answers_with_their_stop_tokens_and_nothing_else(
    build: Callable[..., Template], name: str
) -> None:
    template = build(name)
    expected = [(answer(template, TALK[2]), 1.0), (answer(template, TALK[4]), 1.0)]
    assert trained(template.render(TALK, "all_answers")) == expected
    assert trained(template.render(TALK, "last_answer")) == expected[1:]


@every_template
def test_a_messages_own_weight_goes_before_train_on(build: Callable[..., Template], name: str) -> None:
    template = build(name)
    talk = [*TALK[:2], Message("assistant", "a", 0.25), TALK[3], Message("assistant", "b", 0.0)]
    for train_on in ("all_answers", "last_answer"):
        assert trained(template.render(talk, train_on)) == [(answer(template, talk[2]), 0.25)]


@every_template
def test_a_weight_on_a_user_message_trains_nothing(build: Callable[..., Template], name: str) -> None:
    talk = [Message("user", "q", 1.0), Message("assistant", "a", 0.0)]
    assert trained(build(name).render(talk, "all_answers")) == []


@every_template
@small
@given(data=st.data())
def test_contents_are_never_control_text_and_nothing_else_is_changed(
    build: Callable[..., Template], name: str, data: st.DataObject
) -> None:
    template = build(name)
    texts = [data.draw(contents) for _ in range(4)]
    talk = [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]
    pieces = template.render(talk, "all_answers")
    assert [p.text for p in pieces if not p.control and p.text] == [w for m in talk if (w := written(template, m))]
    assert joined(pieces) == plainly(template.jinja(), talk)


# prompts


@every_template
def test_a_prompt_is_what_stands_before_an_answer(build: Callable[..., Template], name: str) -> None:
    template = build(name)
    whole = joined(template.render(TALK, "all_answers"))
    for i in (2, 4):
        prompt = joined(template.prompt(TALK[:i]))
        assert whole.startswith(prompt + answer(template, TALK[i]))
        assert prompt == plainly(template.jinja(), TALK[:i], generate=True)


@every_template
def test_a_prompts_ids_are_the_beginning_of_the_conversations_ids(
    build: Callable[..., Template], all_tokens: Tokenizer, name: str
) -> None:
    template = build(name)
    for train_on in ("all_answers", "last_answer"):
        whole = all_tokens.encode_one(template.render(TALK, train_on))
        for i in (2, 4):
            prompt = all_tokens.encode_one(template.prompt(TALK[:i]))
            assert prompt == whole[: len(prompt)]


@every_template
def test_the_answers_borders_are_cuts(build: Callable[..., Template], name: str) -> None:
    """Whatever is trained, generation starts and ends in the same places, so tokens must not reach over them."""
    template = build(name)
    for train_on in ("all_answers", "last_answer"):
        assert {len(joined(template.prompt(TALK[:i]))) for i in (2, 4)} <= cuts(template.render(TALK, train_on))


@every_template
def test_a_final_answer_that_is_only_begun_is_continued(
    build: Callable[..., Template], all_tokens: Tokenizer, name: str
) -> None:
    template = build(name)
    begun = [*TALK[:4], Message("assistant", "It is")]
    text = joined(template.prompt(begun, continue_final=True))
    assert text == joined(template.prompt(TALK[:4])) + template.answer_start + "It is"
    assert text == theirs(all_tokens, template.jinja(), begun, False, continue_final_message=True)
    with pytest.raises(TemplateError, match="only an assistant's last message"):
        template.prompt(TALK[:4], continue_final=True)


@every_native_template
@pytest.mark.parametrize("talk", TALKS)
def test_the_jinja_form_is_the_same_text_in_transformers(
    build: Callable[..., Template], with_bos: Tokenizer, name: str, talk: str
) -> None:
    for template in (build(name), make(with_bos, name), build(name, system='it\'s a "test"\n{{ x }}')):
        messages = TALKS[talk]
        source, tokenizer = template.jinja(), template.tokenizer  # type: ignore[attr-defined]
        assert theirs(tokenizer, source, messages, False) == joined(template.render(messages, "all_answers"))
        assert theirs(tokenizer, source, messages[:-1], True) == joined(template.prompt(messages[:-1]))


@every_native_template
def test_the_mask_derived_from_the_jinja_form_is_the_same(
    build: Callable[..., Template], with_bos: Tokenizer, tmp_path: Path, name: str
) -> None:
    for native in (build(name), make(with_bos, name)):
        file = tmp_path / "template.jinja"
        file.write_text(native.jinja(), "utf-8")
        derived = make(native.tokenizer, str(file))  # type: ignore[attr-defined]
        for messages in TALKS.values():
            for train_on in ("all_answers", "last_answer"):
                one, other = native.render(messages, train_on), derived.render(messages, train_on)
                assert mask(one) == mask(other)
                assert cuts(one) == cuts(other)
            assert mask(native.prompt(messages[:-1])) == mask(derived.prompt(messages[:-1]))
            assert mask(native.prompt(messages, continue_final=True)) == mask(
                derived.prompt(messages, continue_final=True)
            )
        assert (native.stop, native.answer_start, native.answer_end) == (
            derived.stop, derived.answer_start, derived.answer_end,
        )  # fmt: skip


# the default system message


@every_template
def test_the_default_system_message_is_added_where_there_is_none(build: Callable[..., Template], name: str) -> None:
    template = build(name, system="You are weft.")
    without = TALK[1:]
    expected = [Message("system", "You are weft."), *without]
    assert template.render(without, "all_answers") == build(name).render(expected, "all_answers")
    assert template.render(TALK, "all_answers") == build(name).render(TALK, "all_answers")
    assert template.prompt(without[:1]) == build(name).prompt(expected[:2])


@every_template
@pytest.mark.parametrize("system", ["You are weft.", 'it\'s "quoted"\n{{ x }} 你好', ""])
def test_the_jinja_form_adds_the_default_system_message_too(
    build: Callable[..., Template], name: str, system: str
) -> None:
    template = build(name, system=system)
    for talk in (TALK, TALK[1:]):
        assert plainly(template.jinja(), talk) == joined(template.render(talk, "all_answers"))
        assert plainly(template.jinja(), talk[:-1], generate=True) == joined(template.prompt(talk[:-1]))


# names and fingerprints


@every_template
def test_the_fingerprint_changes_with_the_system_message_and_with_nothing_else(
    build: Callable[..., Template], name: str
) -> None:
    assert build(name).fingerprint == build(name).fingerprint
    assert len({build(name, system=system).fingerprint for system in (None, "", "a", "b")}) == 4


@every_template
def test_a_template_has_a_name_a_stop_token_and_an_end(
    build: Callable[..., Template], all_tokens: Tokenizer, name: str
) -> None:
    template = build(name)
    assert template.name == name
    assert all_tokens.id_of(template.stop) in all_tokens.control_ids


def test_no_two_templates_have_one_fingerprint(build: Callable[..., Template]) -> None:
    assert len({build(name).fingerprint for name in ALL}) == len(ALL)


@every_native_template
def test_a_template_whose_tokens_the_tokenizer_lacks_names_them(
    tokenizer_folder: Path, tmp_path: Path, name: str
) -> None:
    """All but the textual ones, whose markers need no tokens."""
    bare = tokenizer_with(tokenizer_folder, tmp_path / "bare", template=None)
    textual = ("alpaca", "chatml", "internlm2", "llama2", "mftcoder", "mistral_v1", "plain", "qwen", "vicuna", "zephyr")
    if name in textual:  # (the fixture has ChatML's tokens)
        assert make(bare, name).name == name
    else:
        with pytest.raises(TemplateError, match=r"the tokenizer in .* has no token .*; use mftcoder"):
            make(bare, name)


@every_native_template
def test_a_template_can_be_sent_to_another_process(build: Callable[..., Template], name: str) -> None:
    import pickle

    template = build(name)
    again = pickle.loads(pickle.dumps(template))
    assert again.fingerprint == template.fingerprint
    assert again.render(TALK, "all_answers") == template.render(TALK, "all_answers")


# documents and tools


@every_template
def test_a_document_is_all_trained_without_a_template(
    build: Callable[..., Template], all_tokens: Tokenizer, name: str
) -> None:
    talk = [Message("text", "Once </s> upon")]
    pieces = build(name, system="unused").render(talk, "all_answers")
    assert joined(pieces) == "Once </s> upon</s>"
    assert trained(pieces) == [("Once </s> upon</s>", 1.0)]
    ids = all_tokens.encode_one(pieces)
    assert [i for i in ids if i in all_tokens.control_ids] == [all_tokens.eos_id]
    assert joined(build(name).prompt(talk)) == "Once </s> upon"


def takes_tools(template: Template) -> bool:
    return isinstance(template, MarkerTemplate) and template.tools is not None


@every_template
def test_tools_are_offered_called_and_answered_or_refused(
    build: Callable[..., Template], all_tokens: Tokenizer, tmp_path: Path, name: str
) -> None:
    native = build(name)
    if not takes_tools(native):
        with pytest.raises(TemplateError, match="has no way to (offer|show) tools"):
            native.render(TALK, "all_answers", (WEATHER,))
        with pytest.raises(TemplateError):
            native.render(TOOL_TALK[:3], "all_answers")
        return
    file = tmp_path / "template.jinja"
    file.write_text(native.jinja(), "utf-8")
    derived = make(all_tokens, str(file))
    words = native.tools.beside is not None  # type: ignore[attr-defined]
    for talk in (TOOL_TALK, TOOL_TALK[1:], [*TOOL_TALK[:2], TOOL_TALK[2]._replace(content="Let me see." * words)]):
        for tools in ((WEATHER,), (WEATHER, CLOCK), ()):
            pieces = native.render(talk, "all_answers", tools)
            assert joined(pieces) == theirs(all_tokens, native.jinja(), talk, False, tools)
            other = derived.render(talk, "all_answers", tools)
            assert [c[:2] for c in mask(other)] == [c[:2] for c in mask(pieces)]
            assert all_tokens.encode_one(other) == all_tokens.encode_one(pieces)
            for i, message in enumerate(talk):
                if message.role != "assistant":
                    continue
                prompt = native.prompt(talk[:i], tools)
                assert joined(pieces).startswith(joined(prompt))
                assert joined(prompt) == theirs(all_tokens, native.jinja(), talk[:i], True, tools)
                assert len(joined(prompt)) in cuts(pieces)


@pytest.mark.parametrize("name", ["qwen", "mistral_v3", "mistral_tekken", "internlm2"])
def test_calls_are_trained_and_results_are_not_and_neither_is_ever_control_text(
    build: Callable[..., Template], all_tokens: Tokenizer, name: str
) -> None:
    template = build(name)
    pieces = template.render(TOOL_TALK, "all_answers", (WEATHER, CLOCK))
    runs = [text for text, _ in trained(pieces)]
    assert len(runs) == 4
    assert all(text.endswith(template.stop) for text in runs)
    assert '"weather"' in runs[0]
    assert "Köln" in runs[0]
    assert '"clock"' in runs[2]
    assert not any("sky" in text or "noon</" in text or "How the weather is" in text for text in runs)
    data = "".join(piece.text for piece in pieces if not piece.control)
    for text in ("said in words", "<|im_end|>", 'Rhein</s>"', '"blue <|im_end|>"', "grey"):
        assert text in data
    ids = all_tokens.encode_one(pieces)
    control = [all_tokens.backend.id_to_token(i) for i in ids if i in all_tokens.control_ids]
    text = "".join(piece.text for piece in pieces if piece.control)
    assert len(control) == sum(text.count(token) for token in all_tokens.control)


@every_native_template
def test_reasoning_and_documents_are_written_or_refused(build: Callable[..., Template], name: str) -> None:
    template = build(name)
    talk = [Message("user", "q"), Message("assistant", "a", reasoning="hm")]
    if name == "qwen":
        assert trained(template.render(talk, "all_answers")) == [("<think>\nhm\n</think>\n\na<|im_end|>", 1.0)]
        assert plainly(template.jinja(), talk) == joined(template.render(talk, "all_answers"))
    else:
        with pytest.raises(TemplateError, match=f"template {name} has no way to write reasoning"):
            template.render(talk, "all_answers")
    with pytest.raises(TemplateError, match=f"template {name} has no way to show documents"):
        template.render(TALK, "all_answers", (), ({"title": "t", "text": "x"},))


def test_words_and_calls_in_one_answer_are_refused_where_the_family_has_no_way(build: Callable[..., Template]) -> None:
    talk = [Message("user", "q"), Message("assistant", "words", tool_calls=(CALL,))]
    with pytest.raises(TemplateError, match="no way to write words and tool calls in one answer"):
        build("mistral_v3").render(talk, "all_answers", (WEATHER,))


def test_a_call_without_an_id_is_written_without_one(build: Callable[..., Template]) -> None:
    talk = [
        Message("user", "q"),
        Message("assistant", "", tool_calls=(ToolCall("clock", {}),)),
        Message("tool", "noon"),
        Message("assistant", "Noon."),
    ]
    text = joined(build("mistral_v3").render(talk, "all_answers", (CLOCK,)))
    assert (
        '[TOOL_CALLS] [{"name": "clock", "arguments": {}}]</s>[TOOL_RESULTS] {"content": noon}[/TOOL_RESULTS] Noon.</s>'
        in text
    )


def test_the_tokens_for_tools_are_asked_for_when_tools_are(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tokenizer_folder, tmp_path / "few", "[INST]", "[/INST]")
    template = make(tokenizer, "mistral_v3")
    assert template.render(TALK, "all_answers")
    with pytest.raises(
        TemplateError, match=r"can't offer tools: the tokenizer in .* has no token \[AVAILABLE_TOOLS\] or"
    ):
        template.render(TALK, "all_answers", (WEATHER,))
