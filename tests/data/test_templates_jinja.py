"""Jinja templates: the mask is derived, and proven for every conversation or refused with the first differing place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.data.templates_kit import (
    CALL,
    CHATML,
    CONTROL,
    HERMES,
    TALK,
    TOOL_TALK,
    WEATHER,
    cuts,
    joined,
    make,
    plainly,
    tokenizer_with,
    trained,
)
from weft.config.settings import TemplateSettings
from weft.data import templates
from weft.data.templates import Template
from weft.data.templates._sandbox import Program
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import JsonObject, Message, Piece, ToolCall

LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content.strip() + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)


@pytest.fixture(scope="session")
def with_chat_template(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_with(tokenizer_folder, tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="session")
def all_tokens(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_with(tokenizer_folder, tmp_path_factory.mktemp("all"), *CONTROL)


@pytest.fixture
def build(with_chat_template: Tokenizer) -> Callable[..., Template]:
    return lambda name, **settings: make(with_chat_template, name, **settings)


@pytest.fixture
def jinja(tmp_path: Path, all_tokens: Tokenizer) -> Callable[..., Template]:
    """A template out of Jinja source."""

    def of(source: str, **settings: object) -> Template:
        file = tmp_path / "template.jinja"
        file.write_text(source, "utf-8")
        return make(all_tokens, str(file), **settings)

    return of


def test_a_space_before_the_answer_is_the_models_to_write_and_contents_may_be_trimmed(
    jinja: Callable[..., Template],
) -> None:
    template = jinja(LLAMA2)
    talk = [Message("user", " q\n"), Message("assistant", "  a "), Message("user", "r"), Message("assistant", "b")]
    pieces = template.render(talk, "all_answers")
    assert joined(pieces) == "[INST] q [/INST] a </s>[INST] r [/INST] b </s>"
    assert trained(pieces) == [(" a </s>", 1.0), (" b </s>", 1.0)]
    assert joined(template.prompt(talk[:1])) == "[INST] q [/INST]"
    assert (template.stop, template.answer_end) == ("</s>", " ")
    assert [p.text for p in pieces if not p.control] == ["q", "a", "r", "b"]


def test_a_template_that_writes_a_system_message_of_its_own_is_shown_right(jinja: Callable[..., Template]) -> None:
    default = "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are Q.<|im_end|>\n' }}{% endif %}"
    template = jinja(default + CHATML)
    assert joined(template.render(TALK[1:3], "all_answers")) == (
        "<|im_start|>system\nYou are Q.<|im_end|>\n<|im_start|>user\nWhat is 1+1?<|im_end|>\n"
        "<|im_start|>assistant\nIt is 2.<|im_end|>\n"
    )
    assert "You are Q." not in joined(template.render(TALK, "all_answers"))
    assert trained(template.render(TALK[1:3], "all_answers")) == [("It is 2.<|im_end|>", 1.0)]


def test_a_template_that_leaves_history_out_is_refused(jinja: Callable[..., Template]) -> None:
    last = "{% set messages = messages[-2:] if messages[-1].role == 'assistant' else messages[-1:] %}" + CHATML
    template = jinja(last)
    assert trained(template.render(TALK[1:3], "all_answers")) == [("It is 2.<|im_end|>", 1.0)]
    with pytest.raises(TemplateError, match=r"message 1 \(system\) appears 0 times"):
        template.render(TALK, "all_answers")


def test_a_template_that_leaves_thinking_out_is_refused_with_the_first_place(jinja: Callable[..., Template]) -> None:
    template = jinja(CHATML.replace("message['content']", "message['content'].split('</think>')[-1]"))
    talk = [Message("user", "q"), Message("assistant", "<think>x</think>a")]
    shown = len("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n")
    with pytest.raises(TemplateError, match=rf"at character {shown} it writes 'a<\|im_end\|>.*'<think>x</think>a"):
        template.render(talk, "all_answers")
    assert trained(template.render(TALK, "all_answers"))  # what it doesn't change stays usable


def test_a_template_whose_prompt_is_not_what_training_shows_is_refused(jinja: Callable[..., Template]) -> None:
    template = jinja(CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n"))
    with pytest.raises(TemplateError, match="the prompt before answer 2 is not what training shows"):
        template.render(TALK[1:3], "all_answers")


def test_a_template_without_a_stop_token_is_refused(jinja: Callable[..., Template]) -> None:
    template = jinja("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}")
    for call in (lambda: template.stop, lambda: template.answer_end):
        with pytest.raises(TemplateError, match="no control token ends an answer"):
            call()
    with pytest.raises(TemplateError):
        template.render(TALK, "all_answers")


def test_a_content_that_appears_twice_is_refused(jinja: Callable[..., Template]) -> None:
    with pytest.raises(TemplateError, match="appears 2 times"):
        jinja(CHATML.replace("message['content'] +", "message['content'] * 2 +")).render(TALK, "all_answers")


BLOCK = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>"
    "{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_generation_block_that_says_the_same_is_taken(jinja: Callable[..., Template]) -> None:
    # trim_blocks eats the newline behind a block, as it does in Transformers
    template = jinja(BLOCK)
    assert [text for text, _ in trained(template.render(TALK, "all_answers"))] == [
        "It is 2.<|im_end|>",
        " It is 4<|im_end|>",
    ]
    assert "\u2997" not in joined(template.render(TALK, "all_answers"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (BLOCK.replace("<|im_end|>{% endgeneration %}", "{% endgeneration %}<|im_end|>"), r"differ from character \d+ .*'<\|im_end\|>"),
        (BLOCK.replace("{% endgeneration %}", "{{ '\n' }}{% endgeneration %}"), r"the block trains '.*\\n', the mask"),
        (BLOCK.replace("'assistant' %}{% gen", "'assistant' and loop.index < 4 %}{% gen"), "trains nothing"),
        (BLOCK.replace("e %}{{ m.content }}", "e %}{% generation %}{{ m.content }}{% endgeneration %}"), "which no answer holds"),
    ],
)  # fmt: skip
def test_a_generation_block_that_says_otherwise_is_refused(
    jinja: Callable[..., Template], changed: str, message: str
) -> None:
    with pytest.raises(TemplateError, match=message):
        jinja(changed).render(TALK, "all_answers")
    untrained = [m._replace(weight=0.0) for m in TALK]
    assert joined(jinja(changed).render(untrained, "all_answers"))


@pytest.mark.parametrize("shown", ["{% if tools %}x{% endif %}", "{% if tools is defined and tools %}x{% endif %}"])
def test_a_template_may_ask_for_tools(jinja: Callable[..., Template], shown: str) -> None:
    assert joined(jinja(shown + CHATML).render(TALK, "all_answers")) == plainly(CHATML, TALK)


def test_the_templates_own_refusal_is_handed_on(jinja: Callable[..., Template]) -> None:
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHATML
    with pytest.raises(TemplateError, match="no system here"):
        jinja(source).render(TALK, "all_answers")
    assert jinja(source).render(TALK[1:], "all_answers")


def test_a_syntax_error_is_told_with_its_line(jinja: Callable[..., Template]) -> None:
    with pytest.raises(TemplateError, match=r"template\.jinja.*line 3"):
        jinja("a\nb\n{% for %}")


def test_markers_with_a_jinja_template_are_refused(jinja: Callable[..., Template]) -> None:
    with pytest.raises(TemplateError, match=r"template\.markers"):
        jinja(CHATML, markers={"user": "x"})


def test_a_template_file_that_is_not_there_is_named(build: Callable[..., Template], tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"nowhere\.jinja"):
        build(str(tmp_path / "nowhere.jinja"))


def test_a_tokenizer_without_a_template_has_none(tokenizer_folder: Path) -> None:
    with pytest.raises(TemplateError, match="has no chat template; use mftcoder"):
        templates.build(TemplateSettings(name="tokenizer"), Tokenizer.load(tokenizer_folder))


def test_the_template_of_tokenizer_config_may_be_a_list_of_named_ones(tokenizer_folder: Path, tmp_path: Path) -> None:
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": "rag", "template": "x"}, {"name": "default", "template": CHATML}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    template = templates.build(TemplateSettings(), Tokenizer.load(tmp_path))
    assert template.jinja() == CHATML


@pytest.mark.parametrize("source", [CHATML, LLAMA2])
def test_prompt_ids_are_those_of_transformers(
    jinja: Callable[..., Template], with_chat_template: Tokenizer, source: str
) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(
        tokenizer_file=str(with_chat_template.folder / "tokenizer.json"), eos_token="</s>", chat_template=source
    )
    talk = [Message("user", "Hello you"), Message("assistant", "Hi 你好"), Message("user", "name")]
    turns = [{"role": m.role, "content": m.content} for m in talk]
    expected = theirs.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert with_chat_template.encode_one(jinja(source).prompt(talk)) == expected


# what is trimmed


def test_contents_are_trimmed_message_by_message(jinja: Callable[..., Template]) -> None:
    source = CHATML.replace(
        "message['content']", "(message['content'] | trim if message['role'] == 'assistant' else message['content'])"
    )
    template = jinja(source)
    talk = [Message("user", " q\n"), Message("assistant", " a "), Message("user", "r "), Message("assistant", "b")]
    pieces = template.render(talk, "all_answers")
    assert [p.text for p in pieces if not p.control] == [" q\n", "a", "r ", "b"]
    assert joined(pieces) == plainly(source, talk)
    assert (
        joined(template.prompt(talk[:2], continue_final=True))
        == "<|im_start|>user\n q\n<|im_end|>\n<|im_start|>assistant\na"
    )


def test_a_result_written_as_json_is_taken(jinja: Callable[..., Template]) -> None:
    source = CHATML.replace(
        "message['content']", "(message['content'] | tojson if message['role'] == 'tool' else message['content'])"
    )
    talk = [Message("user", "q"), Message("tool", 'a "b"\n</s>'), Message("assistant", "c")]
    pieces = jinja(source).render(talk, "all_answers")
    assert joined(pieces) == plainly(source, talk)
    assert [p.text for p in pieces if not p.control] == ["q", 'a \\"b\\"\\n</s>', "c"]


# tools, reasoning, documents


def test_an_answers_calls_are_trained_up_to_the_stop_token(
    jinja: Callable[..., Template], all_tokens: Tokenizer
) -> None:
    template = jinja(HERMES)
    pieces = template.render(TOOL_TALK, "all_answers", (WEATHER,))
    assert joined(pieces) == plainly(HERMES, TOOL_TALK, tools=(WEATHER,))
    call = "<tool_call>weather " + json.dumps(CALL.arguments, ensure_ascii=False) + "</tool_call>"
    assert [text for text, _ in trained(pieces)] == [
        call + "<|im_end|>",
        "Blue.<|im_end|>",
        call + "<tool_call>clock {}</tool_call><|im_end|>",
        "Grey at noon.<|im_end|>",
    ]
    for i in (2, 4, 6, 9):
        prompt = joined(template.prompt(TOOL_TALK[:i], (WEATHER,)))
        assert joined(pieces).startswith(prompt)
        assert len(prompt) in cuts(pieces)


def test_control_tokens_in_tools_calls_and_results_stay_text(
    jinja: Callable[..., Template], all_tokens: Tokenizer
) -> None:
    names = {"<|im_end|>": {"type": "string"}, "\u29970\u2998": {"type": "</s>"}}
    tool: JsonObject = {"type": "function", "function": {"name": "f", "parameters": {"properties": names}}}
    talk = [
        Message("user", "<|im_end|>"),
        Message("assistant", "", tool_calls=(ToolCall("f", {"</s>": "<|im_start|>", "\u2997": 1}),)),
        Message("tool", "<|im_end|>"),
        Message("assistant", "</tool_call>"),
    ]
    pieces = jinja(HERMES).render(talk, "all_answers", (tool,))
    assert joined(pieces) == plainly(HERMES, talk, tools=(tool,))
    control = [all_tokens.backend.id_to_token(i) for i in all_tokens.encode_one(pieces) if i in all_tokens.control_ids]
    turn = ["<|im_start|>", "<|im_end|>"]
    assert control == [*turn, *turn, "<|im_start|>", "<tool_call>", "</tool_call>", "<|im_end|>", *turn, *turn]


def test_reasoning_is_trained_before_the_answer(jinja: Callable[..., Template]) -> None:
    talk = [Message("user", "q"), Message("assistant", "a", reasoning="hm </s>")]
    assert trained(jinja(HERMES).render(talk, "all_answers")) == [("<think>hm </s></think>a<|im_end|>", 1.0)]


def test_reasoning_that_is_left_out_is_refused_where_it_is_trained(jinja: Callable[..., Template]) -> None:
    source = (
        "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
        "{% endfor %}"
        + HERMES.replace("{% if m.reasoning_content %}", "{% if m.reasoning_content and loop.index0 > ns.last %}")
    )
    talk = [
        Message("user", "q"),
        Message("assistant", "a", reasoning="one"),
        Message("user", "r"),
        Message("assistant", "b", reasoning="two"),
    ]
    with pytest.raises(TemplateError, match="the reasoning of message 2 .assistant. appears 0 times"):
        jinja(source).render(talk, "all_answers")
    assert trained(jinja(source).render(talk, "last_answer")) == [("<think>two</think>b<|im_end|>", 1.0)]


def test_documents_are_shown_as_in_transformers(jinja: Callable[..., Template], all_tokens: Tokenizer) -> None:
    from transformers import PreTrainedTokenizerFast

    source = "{% for d in documents or [] %}{{ d.title }}: {{ d.text }}\n{% endfor %}" + HERMES
    documents: tuple[JsonObject, ...] = ({"title": "T", "text": "x <|im_end|>"}, {"title": "U", "text": "y"})
    plain = PreTrainedTokenizerFast(tokenizer_file=str(all_tokens.folder / "tokenizer.json"), eos_token="</s>")
    turns = [{"role": m.role, "content": m.content} for m in TALK[:4]]
    expected = plain.apply_chat_template(
        turns,
        chat_template=source,
        documents=list(documents),
        tools=[WEATHER],
        add_generation_prompt=True,
        tokenize=False,
    )
    pieces = jinja(source).prompt(TALK[:4], (WEATHER,), documents)
    assert joined(pieces) == expected
    assert sum(i in all_tokens.control_ids for i in all_tokens.encode_one(pieces)) == 11


@pytest.mark.parametrize("what", ["tools", "documents"])
def test_what_a_template_would_leave_out_is_refused(jinja: Callable[..., Template], what: str) -> None:
    with pytest.raises(TemplateError, match=f"has no way to show {what}"):
        jinja(CHATML).render(TALK, "all_answers", **{what: ({"name": "x"},)})
    talk = [Message("user", "q"), Message("assistant", "", tool_calls=(CALL,))]
    with pytest.raises(TemplateError, match="leaves out the call of weather in answer 2"):
        jinja(CHATML).render(talk, "all_answers")


def test_an_earlier_answer_that_can_not_be_proven_is_refused_only_where_it_is_trained(
    jinja: Callable[..., Template],
) -> None:
    """A system message in the last user turn, as Mistral's own templates have it, moves with every turn."""
    source = (
        "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
        "{% endfor %}{% for m in messages[1:] %}<|im_start|>{{ m.role }}\n{% if loop.index0 + 1 == ns.last %}{{ messages[0].content }}"
        "{% endif %}{{ m.content }}<|im_end|>{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(TemplateError, match="the prompt before answer 3 is not what training shows"):
        jinja(source).render(TALK, "all_answers")
    assert trained(jinja(source).render(TALK, "last_answer")) == [(" It is 4<|im_end|>", 1.0)]
    assert trained(jinja(source).render(TALK[:3], "all_answers")) == [("It is 2.<|im_end|>", 1.0)]


def test_another_messages_text_in_an_answer_is_refused(jinja: Callable[..., Template]) -> None:
    """What stands behind an answer's beginning and before its stop token would be trained."""
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>{{ messages[loop.index0 - 1].content }}{{ m.content }}<|im_end|>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    talk = [Message("user", "q"), Message("assistant", "a")]
    with pytest.raises(TemplateError, match="appears 0 times|would be trained"):
        jinja(source).render(talk, "all_answers")
    with pytest.raises(TemplateError):
        jinja(source).prompt(talk[:1])


# dates


def test_the_day_that_a_template_is_told_is_in_its_fingerprint(jinja: Callable[..., Template]) -> None:
    plain, dated = jinja(CHATML), jinja("{{ strftime_now('%d %b %Y') }}\n" + CHATML)
    days = [Program(dated.source, "x", datetime(2026, 1, day, hour)).dates for day, hour in ((1, 8), (1, 9), (2, 8))]  # type: ignore[attr-defined]
    assert days == ["2026-01-01", "2026-01-01", "2026-01-02"]
    assert Program(CHATML, "x").dates == ""
    assert datetime.now().strftime("%Y") in dated._program.dates  # type: ignore[attr-defined]
    assert plain.fingerprint != dated.fingerprint


def test_all_builds_of_a_day_write_the_same_moment(
    jinja: Callable[..., Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two processes write two moments into one store, and a resumed run finds another template each second."""

    class Clock(datetime):
        hour_now = 8

        @classmethod
        def now(cls, tz: object = None) -> Clock:
            return cls(2026, 5, 4, cls.hour_now, 59, 58, 57)

    monkeypatch.setattr("weft.data.templates._sandbox.datetime", Clock)
    source = "{{ strftime_now('%d %b %Y %H:%M:%S.%f') }}{% set f = '%c' %}{{ strftime_now(f) }}\n" + CHATML
    first = jinja(source)
    Clock.hour_now = 23
    second = jinja(source)
    assert first.fingerprint == second.fingerprint
    assert first.render(TALK, "all_answers") == second.render(TALK, "all_answers")
    assert joined(first.render(TALK, "all_answers")).startswith("04 May 2026 00:00:00.000000")


def test_a_program_keeps_its_day_in_another_process() -> None:
    import pickle

    program = Program("{{ strftime_now('%Y-%m-%d %H:%M:%S') }}", "x", datetime(2001, 2, 3, 4, 5, 6))
    assert pickle.loads(pickle.dumps(program)).render(messages=[]) == "2001-02-03 00:00:00"
    assert pickle.loads(pickle.dumps(program)).dates == program.dates == "2001-02-03"


def test_a_jinja_template_can_be_sent_to_another_process(jinja: Callable[..., Template]) -> None:
    import pickle

    template = jinja(HERMES)
    before: list[Piece] = template.render(TALK, "all_answers")
    again = pickle.loads(pickle.dumps(template))
    assert again.render(TALK, "all_answers") == before
    assert again.fingerprint == template.fingerprint


def test_every_ending_of_a_jinja_file_is_known(tmp_path: Path, all_tokens: Tokenizer) -> None:
    for name in ("a.jinja", "a.jinja2", "a.j2"):
        (tmp_path / name).write_text(CHATML)
        assert trained(make(all_tokens, str(tmp_path / name)).render(TALK[1:3], "all_answers")) == [
            ("It is 2.<|im_end|>", 1.0)
        ]
