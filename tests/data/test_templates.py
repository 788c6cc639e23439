"""Templates: every file in the folder joins the conformance test; then what Jinja templates may and may not do."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import need_shared
from weft.config.settings import TemplateSettings
from weft.data import templates
from weft.data.templates import Template
from weft.data.tokens import Tokenizer
from weft.errors import ConfigError, TemplateError
from weft.plugins import names
from weft.types import Message, Piece

ALL = names("weft.data.templates")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content.strip() + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
TALK = [
    Message("system", "Be kind."),
    Message("user", "What is 1+1?"),
    Message("assistant", "It is 2."),
    Message("user", "And 2+2?\n"),
    Message("assistant", " It is 4"),
]
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
        "\u2997" + "0" + "\u2998",
    ]
)


@pytest.fixture(scope="session")
def with_chat_template(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The fixture's tokenizer with a chat template of its own, so that every template can be built."""
    folder = tmp_path_factory.mktemp("chat")
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, folder)
    (folder / "chat_template.jinja").write_text(CHATML, "utf-8")
    return Tokenizer.load(folder)


@pytest.fixture(scope="session")
def build(with_chat_template: Tokenizer) -> Callable[..., Template]:
    def make(name: str, **settings: Any) -> Template:
        return templates.build(TemplateSettings(name=name, **settings), with_chat_template)

    return make


@pytest.fixture
def jinja(tmp_path: Path, with_chat_template: Tokenizer) -> Callable[..., Template]:
    """A template out of Jinja source."""

    def make(source: str, **settings: Any) -> Template:
        file = tmp_path / "template.jinja"
        file.write_text(source, "utf-8")
        return templates.build(TemplateSettings(name=str(file), **settings), with_chat_template)

    return make


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def trained(pieces: list[Piece]) -> list[tuple[str, float]]:
    """The stretches with a weight, each with it."""
    runs = [(key, joined(list(group))) for key, group in groupby(pieces, key=lambda piece: piece.weight)]
    return [(text, weight) for weight, text in runs if weight > 0 and text]


def plainly(source: str, messages: list[Message], generate: bool = False, **names: str) -> str:
    """The reference: Jinja as Transformers sets it up, without any of ours."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    turns = [{"role": m.role, "content": m.content} for m in messages]
    return environment.from_string(source).render(messages=turns, add_generation_prompt=generate, **names)


# conformance

every_template = pytest.mark.parametrize("name", ALL)


@every_template
def test_a_template_trains_the_answers_with_their_stop_tokens_and_nothing_else(
    build: Callable[..., Template], name: str
) -> None:
    template = build(name)
    end = template.answer_end + template.stop
    expected = [("It is 2." + end, 1.0), (" It is 4" + end, 1.0)]
    assert trained(template.render(TALK, "all_answers")) == expected
    assert trained(template.render(TALK, "last_answer")) == expected[1:]


@every_template
def test_a_messages_own_weight_goes_before_train_on(build: Callable[..., Template], name: str) -> None:
    template = build(name)
    end = template.answer_end + template.stop
    talk = [*TALK[:2], Message("assistant", "a", 0.25), TALK[3], Message("assistant", "b", 0.0)]
    for train_on in ("all_answers", "last_answer"):
        assert trained(template.render(talk, train_on)) == [("a" + end, 0.25)]


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
    assert [p.text for p in pieces if not p.control and p.text] == [text for text in texts if text]
    assert joined(pieces) == plainly(template.jinja(), talk)


@every_template
def test_a_prompt_is_what_stands_before_an_answer(build: Callable[..., Template], name: str) -> None:
    template = build(name)
    whole = joined(template.render(TALK, "all_answers"))
    for i in (2, 4):
        prompt = joined(template.prompt(TALK[:i]))
        assert whole.startswith(prompt + TALK[i].content + template.answer_end + template.stop)
        assert prompt == plainly(template.jinja(), TALK[:i], generate=True)


@every_template
def test_the_answers_borders_are_cuts(build: Callable[..., Template], name: str) -> None:
    """Whatever is trained, generation starts and ends in the same places, so tokens must not reach over them."""
    template = build(name)
    for train_on in ("all_answers", "last_answer"):
        at, cuts = 0, set()
        for piece in template.render(TALK, train_on):
            cuts |= {at} if piece.cut else set()
            at += len(piece.text)
        assert {len(joined(template.prompt(TALK[:i]))) for i in (2, 4)} <= cuts


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


@every_template
def test_a_document_is_all_trained_without_a_template(
    build: Callable[..., Template], with_chat_template: Tokenizer, name: str
) -> None:
    pieces = build(name, system="unused").render([Message("text", "Once </s> upon")], "all_answers")
    assert joined(pieces) == "Once </s> upon</s>"
    assert trained(pieces) == [("Once </s> upon</s>", 1.0)]
    ids = with_chat_template.encode_one(pieces)
    assert [i for i in ids if i in with_chat_template.control_ids] == [with_chat_template.eos_id]


@every_template
def test_the_fingerprint_changes_with_the_system_message_and_with_nothing_else(
    build: Callable[..., Template], name: str
) -> None:
    assert build(name).fingerprint == build(name).fingerprint
    assert len({build(name, system=system).fingerprint for system in (None, "", "a", "b")}) == 4


@every_template
def test_a_template_has_a_name_a_stop_token_and_an_end(
    build: Callable[..., Template], with_chat_template: Tokenizer, name: str
) -> None:
    template = build(name)
    assert template.name == name
    assert with_chat_template.id_of(template.stop) in with_chat_template.control_ids


def test_no_two_templates_have_one_fingerprint(build: Callable[..., Template]) -> None:
    assert len({build(name).fingerprint for name in ALL}) == len(ALL)


# marker templates


def test_markers_replace_those_of_the_template_and_change_the_fingerprint(build: Callable[..., Template]) -> None:
    markers = {"system": "### System:\n", "user": "### Instruction:\n", "assistant": "### Response:\n"}
    template = build("mftcoder", markers=markers)
    assert joined(template.render(TALK[:3], "all_answers")) == (
        "### System:\nBe kind.\n### Instruction:\nWhat is 1+1?\n### Response:\nIt is 2.\n</s>\n"
    )
    assert template.fingerprint != build("mftcoder").fingerprint


@small
@given(marker=contents)
def test_any_marker_survives_the_way_through_jinja(build: Callable[..., Template], marker: str) -> None:
    template = build("mftcoder", markers={"user": marker, "assistant": marker})
    assert plainly(template.jinja(), TALK) == joined(template.render(TALK, "all_answers"))
    assert plainly(template.jinja(), TALK[:2], generate=True) == joined(template.prompt(TALK[:2]))


def test_mftcoders_text_is_that_of_mftcoder(build: Callable[..., Template]) -> None:
    assert joined(build("mftcoder").render(TALK[:3], "all_answers")) == (
        "<s>system\nBe kind.\n<s>human\nWhat is 1+1?\n<s>bot\nIt is 2.\n</s>\n"
    )


@pytest.mark.parametrize("name", ["chatml", "tokenizer"])
def test_chatml_is_that_of_llama_cpps_golden_text(build: Callable[..., Template], name: str) -> None:
    golden = json.loads(need_shared("golden", "chat_formats", "expected.json").read_text("utf-8"))
    case = next(case for case in golden["cases"] if case["format"] == "ChatML")
    talk = [Message(turn["role"], turn["content"]) for turn in golden["conversation"]]
    assert joined(build(name).prompt(talk)) == case["expected"]


def test_chatml_needs_its_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Plain
    from tokenizers import models

    tokenizer = Plain(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    with pytest.raises(TemplateError, match=r"<\|im_start\|> or <\|im_end\|>.*mftcoder"):
        templates.build(TemplateSettings(name="chatml"), Tokenizer.load(tmp_path))


def test_auto_takes_the_tokenizers_own_template_or_mftcoder(
    build: Callable[..., Template], tokenizer_folder: Path
) -> None:
    assert build("auto").name == "tokenizer"
    assert templates.build(TemplateSettings(), Tokenizer.load(tokenizer_folder)).name == "mftcoder"


def test_an_unknown_name_gets_a_hint(build: Callable[..., Template]) -> None:
    with pytest.raises(ConfigError, match=r"template\.name: unknown 'chatlm'\. Did you mean 'chatml'"):
        build("chatlm")


def test_a_role_without_a_marker_is_refused(build: Callable[..., Template]) -> None:
    with pytest.raises(TemplateError, match="no marker for the role 'function'"):
        build("mftcoder").render([Message("function", "x")], "all_answers")


# Jinja templates


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


def test_a_generation_block_is_understood(jinja: Callable[..., Template]) -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>"
        "{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    # trim_blocks eats the newline behind a block, as it does in Transformers
    assert trained(jinja(source).render(TALK[1:3], "all_answers")) == [("It is 2.<|im_end|>", 1.0)]


@pytest.mark.parametrize("shown", ["{% if tools %}x{% endif %}", "{% if tools is defined and tools %}x{% endif %}"])
def test_a_template_may_ask_for_tools(jinja: Callable[..., Template], shown: str) -> None:
    assert joined(jinja(shown + CHATML).render(TALK, "all_answers")) == plainly(CHATML, TALK)


def test_the_templates_own_refusal_is_handed_on(jinja: Callable[..., Template]) -> None:
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHATML
    with pytest.raises(TemplateError, match="no system here"):
        jinja(source).render(TALK, "all_answers")
    assert jinja(source).render(TALK[1:], "all_answers")


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__['os'].system('true') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ self.__init__.__globals__ }}",
    ],
)
def test_a_template_can_reach_nothing_outside_itself(jinja: Callable[..., Template], attack: str) -> None:
    with pytest.raises(TemplateError):
        jinja(attack + CHATML).render(TALK, "all_answers")


@pytest.mark.parametrize("attack", ["{{ ''|attr('__class__')|attr('__mro__') }}", "{{ ''.__class__ }}"])
def test_what_the_sandbox_hides_is_nothing(jinja: Callable[..., Template], attack: str) -> None:
    assert joined(jinja(attack + CHATML).render(TALK, "all_answers")) == plainly(CHATML, TALK)


@pytest.mark.parametrize("statement", ["{% include 'x' %}", "{% import '/etc/passwd' as x %}", "{% extends 'x' %}"])
def test_a_template_can_read_no_file(jinja: Callable[..., Template], statement: str) -> None:
    with pytest.raises(TemplateError):
        jinja(statement + CHATML).render(TALK, "all_answers")


HOSTILE = {
    "a long range": "{% for i in range(10 ** 9) %}x{% endfor %}",
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops over a list": "{% set r = range(99999)|list %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
    "loops that write": "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxx{% endfor %}{% endfor %}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a recursive loop": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "a long string": "{{ 'x' * 10 ** 10 }}",
    "a doubled string": "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "a padded string": "{{ 'x'.ljust(10 ** 10) }}",
    "a centred string": "{{ 'x' | center(10 ** 10) }}",
    "a large power": "{{ 9 ** 9 ** 9 }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_without_end_is_stopped(jinja: Callable[..., Template], name: str) -> None:
    started = time.process_time()
    with pytest.raises(TemplateError):
        jinja(HOSTILE[name] + CHATML).render(TALK, "all_answers")
    assert time.process_time() - started < 4


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
