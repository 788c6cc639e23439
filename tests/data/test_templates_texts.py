"""The texts of the built-in templates as they are published, written out by hand; gaps in documents; markers of the user's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import need_shared
from tests.data.templates_kit import CONTROL, TALK, joined, make, plainly, tokenizer_with, trained
from weft.config.settings import TemplateSettings
from weft.data import templates
from weft.data.templates import Template
from weft.data.tokens import Tokenizer
from weft.errors import ConfigError, TemplateError
from weft.types import Message, ToolCall

TWO_TURNS = [
    Message("system", "S."),
    Message("user", "Hello"),
    Message("assistant", " Hi "),
    Message("user", "Bye"),
    Message("assistant", "Ciao"),
]
PUBLISHED = {
    "alpaca": "<s>S.\n\n### Instruction:\nHello\n\n### Response:\n Hi </s>\n\n### Instruction:\nBye\n\n### Response:\nCiao</s>\n\n",
    "chatglm3": "[gMASK]sop<|system|>\n S.<|user|>\n Hello<|assistant|>\n  Hi <|user|>\n Bye<|assistant|>\n Ciao<|user|>",
    "chatml": "<|im_start|>system\nS.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n Hi <|im_end|>\n"
    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nCiao<|im_end|>\n",
    "deepseek_coder": "<s>S.### Instruction:\nHello\n### Response:\n Hi \n<|EOT|>\n### Instruction:\nBye\n### Response:\nCiao\n<|EOT|>\n",
    "gemma": "<s><start_of_turn>user\nS.\n\nHello<end_of_turn>\n<start_of_turn>model\nHi<end_of_turn>\n"
    "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\nCiao<end_of_turn>\n",
    "internlm2": "<s><|im_start|>system\nS.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n Hi <|im_end|>\n"
    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nCiao<|im_end|>\n",
    "llama2": "<s>[INST] <<SYS>>\nS.\n<</SYS>>\n\nHello [/INST]  Hi  </s><s>[INST] Bye [/INST] Ciao </s>",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nS.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nCiao<|eot_id|>",
    "mftcoder": "<s>system\nS.\n<s>human\nHello\n<s>bot\n Hi \n</s>\n<s>human\nBye\n<s>bot\nCiao\n</s>\n",
    "mistral_v1": "<s> [INST] S.\n\nHello [/INST]  Hi </s> [INST] Bye [/INST] Ciao</s>",
    "mistral_v3": "<s>[INST] S.\n\nHello[/INST]  Hi </s>[INST] Bye[/INST] Ciao</s>",
    "mistral_tekken": "<s>[INST]S.\n\nHello[/INST] Hi </s>[INST]Bye[/INST]Ciao</s>",
    "openchat": "<s>GPT4 Correct System: S.<|end_of_turn|>GPT4 Correct User: Hello<|end_of_turn|>"
    "GPT4 Correct Assistant:  Hi <|end_of_turn|>GPT4 Correct User: Bye<|end_of_turn|>GPT4 Correct Assistant: Ciao<|end_of_turn|>",
    "phi": "<s><|system|>\nS.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\n Hi <|end|>\n"
    "<|user|>\nBye<|end|>\n<|assistant|>\nCiao<|end|>\n",
    "plain": "<s>S.Hello Hi </s>ByeCiao</s>",
    "qwen": "<|im_start|>system\nS.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n Hi <|im_end|>\n"
    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nCiao<|im_end|>\n",
    "vicuna": "<s>S.\n\nUSER: Hello\nASSISTANT:  Hi </s>\nUSER: Bye\nASSISTANT: Ciao</s>\n",
    "zephyr": "<|system|>\nS.</s>\n<|user|>\nHello</s>\n<|assistant|>\n Hi </s>\n<|user|>\nBye</s>\n<|assistant|>\nCiao</s>\n",
}  # fmt: skip
BEGINNINGS = {
    "alpaca": "<s>Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nHello\n\n### Response:\n",
    "deepseek_coder": "<s>You are an AI programming assistant, utilizing the Deepseek Coder model, developed by Deepseek Company, and you "
    "only answer questions related to computer science. For politically sensitive questions, security and privacy issues, and other "
    "non-computer science questions, you will refuse to answer\n### Instruction:\nHello\n### Response:\n",
    "qwen": "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
    "llama2": "<s>[INST] Hello [/INST]",
    "mistral_v1": "<s> [INST] Hello [/INST]",
    "gemma": "<s><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n",
    "plain": "<s>Hello",
}
GOLDEN = {
    "ChatML": ["chatml", "qwen"],
    "Llama-2 chat with <<SYS>>": ["llama2"],
    "openchat/openchat-3.5-0106": ["openchat"],
    "deepseek-ai/deepseek-coder-33b-instruct": ["deepseek_coder"],
    "eachadea/vicuna-13b-1.1": ["vicuna"],
    "Llama-3": ["llama3"],
    "Phi-3-small": ["phi"],
    "ChatGLM3": ["chatglm3"],
}
small = settings(max_examples=30, deadline=None, derandomize=True)
markers = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<|>"), max_size=15)


@pytest.fixture(scope="session")
def all_tokens(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_with(tokenizer_folder, tmp_path_factory.mktemp("all"), *CONTROL)


@pytest.fixture(scope="session")
def with_bos(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer like Llama's: `<s>` is its BOS, and it writes it before any text by itself."""
    from tokenizers import processors

    tokenizer = tokenizer_with(tokenizer_folder, tmp_path_factory.mktemp("bos"), *CONTROL, bos="<s>")
    backend, number = tokenizer.backend, tokenizer.id_of("<s>")
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", number)]
    )
    backend.save(str(tokenizer.folder / "tokenizer.json"))
    return Tokenizer.load(tokenizer.folder)


@pytest.fixture
def build(all_tokens: Tokenizer) -> Callable[..., Template]:
    return lambda name, **settings: make(all_tokens, name, **settings)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_text_is_the_published_one(with_bos: Tokenizer, name: str) -> None:
    assert joined(make(with_bos, name).render(TWO_TURNS, "all_answers")) == PUBLISHED[name]


def test_every_built_in_template_has_its_text_here() -> None:
    from tests.data.templates_kit import NATIVE

    assert sorted(PUBLISHED) == NATIVE


@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_conversation_without_a_system_message_begins_as_published(with_bos: Tokenizer, name: str) -> None:
    assert joined(make(with_bos, name).prompt([Message("user", "Hello")])) == BEGINNINGS[name]


@pytest.mark.shared
@pytest.mark.parametrize("model", GOLDEN)
def test_the_golden_texts_are_met(all_tokens: Tokenizer, with_bos: Tokenizer, model: str) -> None:
    """A leading BOS is written there only where the text shows it, so it is taken off where the tokenizer has one."""
    golden = json.loads(need_shared("golden", "chat_formats", "expected.json").read_text("utf-8"))
    case = next(case for case in golden["cases"] if model in (case["model"], case["format"]))
    talk = [Message(turn["role"], turn["content"]) for turn in golden["conversation"]]
    for name in GOLDEN[model]:
        tokenizer = with_bos if case["bos_token"] else all_tokens
        assert joined(make(tokenizer, name).prompt(talk)).removeprefix(case["bos_token"] or "\0") == case["expected"]


@pytest.mark.shared
def test_every_golden_text_is_tested() -> None:
    golden = json.loads(need_shared("golden", "chat_formats", "expected.json").read_text("utf-8"))
    assert len(golden["cases"]) == len(GOLDEN)


def test_qwen_offers_calls_and_answers_as_published(build: Callable[..., Template]) -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    talk = [
        Message("user", "q"),
        Message("assistant", "Wait.", tool_calls=(ToolCall("f", {"x": 1}), ToolCall("f", {"x": "é"}))),
        Message("tool", "one"),
        Message("tool", "two"),
        Message("assistant", "Done."),
    ]
    assert joined(build("qwen").render(talk, "all_answers", (tool,))) == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n# Tools\n\nYou may call one or more "
        "functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        '{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}\n</tools>\n\n'
        "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n"
        '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
        '<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nWait.\n<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "f", "arguments": {"x": "é"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nDone.<|im_end|>\n"
    )


def test_mistral_and_internlm_call_as_published(build: Callable[..., Template]) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    talk = [
        Message("user", "q"),
        Message("assistant", "", tool_calls=(ToolCall("f", {"x": 1}, "abcdefghi"),)),
        Message("tool", "22", call_id="abcdefghi"),
        Message("assistant", "Done."),
    ]
    assert joined(build("mistral_v3").render(talk, "all_answers", (tool,))) == (
        '[AVAILABLE_TOOLS] [{"type": "function", "function": {"name": "f", "parameters": {}}}][/AVAILABLE_TOOLS][INST] q[/INST]'
        '[TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}, "id": "abcdefghi"}]</s>'
        '[TOOL_RESULTS] {"content": 22, "call_id": "abcdefghi"}[/TOOL_RESULTS] Done.</s>'
    )
    assert joined(build("internlm2").render(talk, "all_answers", (tool,))) == (
        '<|im_start|>system name=<|plugin|>\n[{"name": "f", "parameters": {}}]<|im_end|>\n<|im_start|>user\nq<|im_end|>\n'
        '<|im_start|>assistant\n<|action_start|><|plugin|>\n{"name": "f", "parameters": {"x": 1}}<|action_end|><|im_end|>\n'
        "<|im_start|>environment name=<|plugin|>\n22<|im_end|>\n<|im_start|>assistant\nDone.<|im_end|>\n"
    )


def test_chatglm3_ends_an_answer_with_the_next_users_token(build: Callable[..., Template]) -> None:
    template = build("chatglm3")
    assert trained(template.render(TWO_TURNS, "all_answers")) == [("\n  Hi <|user|>", 1.0), ("\n Ciao<|user|>", 1.0)]
    with pytest.raises(TemplateError, match="can't write system after assistant; there it takes user"):
        template.render([*TWO_TURNS, Message("system", "x")], "all_answers")


@pytest.mark.parametrize("name", ["llama2", "gemma", "mistral_v1"])
def test_a_system_message_goes_into_the_first_users_turn_or_is_refused(
    build: Callable[..., Template], name: str
) -> None:
    template = build(name)
    for talk in (TWO_TURNS[:1], [*TWO_TURNS[1:3], *TWO_TURNS[:2]]):
        with pytest.raises(TemplateError, match=f"template {name} can't write"):
            template.prompt(talk)
        with pytest.raises(ValueError, match="can not stand"):
            plainly(template.jinja(), talk, generate=True)


# markers


def test_markers_replace_those_of_the_template_and_change_the_fingerprint(build: Callable[..., Template]) -> None:
    markers = {"system": "### System:\n", "user": "### Instruction:\n", "assistant": "### Response:\n"}
    template = build("mftcoder", markers=markers)
    assert joined(template.render(TALK[:3], "all_answers")) == (
        "### System:\nBe kind.\n### Instruction:\nWhat is 1+1?\n### Response:\nIt is 2.\n</s>\n"
    )
    assert template.fingerprint != build("mftcoder").fingerprint


@pytest.mark.parametrize(
    "name", ["plain", "alpaca", "vicuna", "zephyr", "chatml", "qwen", "deepseek_coder", "internlm2"]
)
def test_other_templates_of_markers_take_them_too(build: Callable[..., Template], name: str) -> None:
    text = joined(build(name, markers={"user": "Q: ", "assistant": "A:"}).prompt(TALK[1:2]))
    assert "Q: What is 1+1?" in text
    assert text.endswith("A:")


@pytest.mark.parametrize("name", ["llama2", "llama3", "mistral_v3", "gemma", "phi", "openchat", "chatglm3"])
def test_a_family_whose_markers_are_fixed_refuses_others(build: Callable[..., Template], name: str) -> None:
    with pytest.raises(TemplateError, match=f"template.markers: {name} has none to choose"):
        build(name, markers={"user": "Q: "})


def test_a_marker_for_a_role_that_the_template_does_not_write_is_refused(build: Callable[..., Template]) -> None:
    with pytest.raises(TemplateError, match=r"template\.markers\.tool: vicuna writes no such role"):
        build("vicuna", markers={"tool": "T: "})


@small
@given(marker=markers)
def test_any_marker_survives_the_way_through_jinja(all_tokens: Tokenizer, marker: str) -> None:
    template = make(all_tokens, "mftcoder", markers={"user": marker, "assistant": marker})
    assert plainly(template.jinja(), TALK) == joined(template.render(TALK, "all_answers"))
    assert plainly(template.jinja(), TALK[:2], generate=True) == joined(template.prompt(TALK[:2]))


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
    with pytest.raises(ConfigError, match=r"template\.name: unknown 'chatmll'\. Did you mean 'chatml'"):
        build("chatmll")


def test_a_role_without_a_marker_is_refused(build: Callable[..., Template]) -> None:
    with pytest.raises(TemplateError, match="no marker for the role 'function'"):
        build("mftcoder").render([Message("function", "x")], "all_answers")


# documents with a gap

GAP = [Message("fim_prefix", "def f():\n"), Message("fim_suffix", "\nprint(f())"), Message("assistant", "    return 1")]
FAMILIES = {
    "starcoder": (["<fim_prefix>", "<fim_suffix>", "<fim_middle>"], "<fim_prefix>{P}<fim_suffix>{S}<fim_middle>", "</s>"),
    "santacoder": (["<fim-prefix>", "<fim-suffix>", "<fim-middle>"], "<fim-prefix>{P}<fim-suffix>{S}<fim-middle>", "</s>"),
    "qwen": (["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"], "<|fim_prefix|>{P}<|fim_suffix|>{S}<|fim_middle|>", "</s>"),
    "deepseek": (
        ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"], "<｜fim▁begin｜>{P}<｜fim▁hole｜>{S}<｜fim▁end｜>", "</s>",
    ),
    "codellama": (["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"], "▁<PRE>{P}▁<SUF>{S}▁<MID>", "▁<EOT>"),
    "codestral": (["[PREFIX]", "[SUFFIX]"], "[SUFFIX]{S}[PREFIX]{P}", "</s>"),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gap_is_written_in_the_words_of_the_tokenizers_family(
    tokenizer_folder: Path, tmp_path: Path, family: str
) -> None:
    tokens, order, end = FAMILIES[family]
    tokenizer = tokenizer_with(tokenizer_folder, tmp_path / "fim", *tokens)
    before = order.format(P=GAP[0].content, S=GAP[1].content)
    for name in ("mftcoder", "tokenizer"):
        template = make(tokenizer, name)
        pieces = template.render(GAP, "all_answers")
        assert joined(pieces) == before + "    return 1" + end
        assert trained(pieces) == [("    return 1" + end, 1.0)]
        assert joined(template.prompt(GAP[:2])) == before
        assert joined(template.prompt(GAP, continue_final=True)) == before + "    return 1"
        ids = tokenizer.encode_one(pieces)
        prompt = tokenizer.encode_one(template.prompt(GAP[:2]))
        assert prompt == ids[: len(prompt)]
        assert sum(i in tokenizer.control_ids for i in ids) == len(set(tokens) - {end}) + 1


def test_a_text_that_spells_a_gaps_token_stays_text(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tokenizer_folder, tmp_path / "fim", *FAMILIES["starcoder"][0])
    talk = [Message("fim_prefix", "x<fim_middle>"), Message("fim_suffix", ""), Message("assistant", "</s>", 0.5)]
    pieces = make(tokenizer, "mftcoder").render(talk, "all_answers")
    assert sum(i in tokenizer.control_ids for i in tokenizer.encode_one(pieces)) == 4
    assert trained(pieces) == [("</s></s>", 0.5)]


def test_a_tokenizer_without_tokens_for_gaps_is_refused_with_a_remedy(build: Callable[..., Template]) -> None:
    with pytest.raises(TemplateError, match=r"has no fill-in-the-middle tokens .*StarCoder.*write the rows as prompts"):
        build("chatml").render(GAP, "all_answers")


@pytest.mark.parametrize("talk", [[*GAP, Message("user", "x")], [GAP[0], GAP[0]], [*GAP, GAP[2]]])
def test_a_gap_among_other_messages_is_refused(tokenizer_folder: Path, tmp_path: Path, talk: list[Message]) -> None:
    tokenizer = tokenizer_with(tokenizer_folder, tmp_path / "fim", *FAMILIES["starcoder"][0])
    with pytest.raises(
        TemplateError, match="a document with a gap has fim_prefix, fim_suffix and one assistant message"
    ):
        make(tokenizer, "mftcoder").render(talk, "all_answers")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("starcoder2", ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|endoftext|>"]),
        (
            "deepseek-coder",
            ["<｜begin▁of▁sentence｜>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", "<｜end▁of▁sentence｜>"],
        ),
    ],
)
def test_real_tokenizers_get_their_own_gap_tokens(name: str, expected: list[str]) -> None:
    tokenizer = Tokenizer.load(need_shared("tokenizers", name))
    ids = tokenizer.encode_one(make(tokenizer, "mftcoder").render(GAP, "all_answers"))
    assert [tokenizer.backend.id_to_token(i) for i in ids if i in tokenizer.control_ids] == expected
