"""An answer's text must be what was trained, to the character, whatever the tokenizer does with spaces and bytes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import need_shared
from weft.config.settings import TemplateSettings
from weft.data import templates
from weft.data.tokens import Tokenizer
from weft.generation.model import Loaded
from weft.generation.text import AnswerText, TextStream, prompt_ids
from weft.types import Message, Piece

CONTENTS = [
    "yes",
    " yes",
    "  two",
    "\tx",
    "a\n",
    "\n\n",
    "你好 🙂",
    "🙂",
    "'s",
    ".",
    "1",
    "def f():\n    return 1\n",
    "é\n\n b",
    " ",
]
FOLDERS = ["models/stories260K", "tokenizers/llama2", "tokenizers/gpt2", "tokenizers/qwen", "tokenizers/deepseek-coder"]
CONTROL_RIGHT_BEFORE = (
    "{% for m in messages %}{{ eos_token + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ eos_token }}{% endif %}"
)


def opened(tokenizer: Tokenizer, template: templates.Template) -> Loaded:
    stops = (tokenizer.eos_id,)
    return Loaded(Path(), None, None, tokenizer, template, stops, torch.device("cpu"))


def trained(loaded: Loaded, content: str) -> tuple[list[int], list[int]]:
    """The prompt's ids and the trained ids of one answer, as training makes them."""
    messages = [Message("user", "Well?"), Message("assistant", content)]
    encoded = loaded.tokenizer.encode([loaded.template.render(messages, "all_answers")])[0]
    weight = encoded.weight_T > 0
    first, last = int(weight.argmax()), len(weight) - int(weight[::-1].argmax())
    return encoded.ids_T[:first].tolist(), encoded.ids_T[first:last].tolist()


def check(loaded: Loaded, content: str) -> None:
    prompt, ids = trained(loaded, content)
    if "stories" in str(loaded.tokenizer.folder):  # its normalizer keeps one space of several
        content = re.sub(" {2,}", " ", content)
    assert ids[-1] in loaded.stop_ids
    assert AnswerText(loaded, prompt).of(ids, stopped=True) == content
    stream = TextStream(loaded, prompt)
    pieces = [stream.push(number) for number in ids[:-1]]
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + stream.finish(stopped=True) == content


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_text_of_trained_ids_is_what_was_trained(folder: str, content: str) -> None:
    tokenizer = Tokenizer.load(need_shared(folder))
    check(opened(tokenizer, templates.build(TemplateSettings(name="mftcoder"), tokenizer)), content)


@pytest.mark.parametrize("folder", FOLDERS[1:])
def test_an_answer_right_behind_a_control_token_keeps_its_spaces(folder: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(need_shared(folder))
    file = tmp_path / "bare.jinja"
    file.write_text(CONTROL_RIGHT_BEFORE)
    loaded = opened(tokenizer, templates.build(TemplateSettings(name=str(file)), tokenizer))
    assert loaded.answer_end == ""
    for content in CONTENTS:
        if content.strip():
            check(loaded, content)


@settings(max_examples=150, deadline=None)
@given(content=st.text(max_size=30))
def test_any_text_comes_back_from_a_byte_level_tokenizer(content: str, tokenizer_folder: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    loaded = opened(tokenizer, templates.build(TemplateSettings(name="mftcoder"), tokenizer))
    if "\ufffd" not in content:
        check(loaded, content)


def test_only_the_templates_own_ending_is_taken_off(tokenizer_folder: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    loaded = opened(tokenizer, templates.build(TemplateSettings(name="mftcoder"), tokenizer))
    prompt, ids = trained(loaded, "a\n")
    assert AnswerText(loaded, prompt).of(ids, stopped=True) == "a\n"
    assert AnswerText(loaded, prompt).of(ids[:-1], stopped=False) == "a\n\n"


def test_a_jinja_template_tells_what_it_puts_before_the_stop_token(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    file = tmp_path / "t.jinja"
    file.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }} end{{ eos_token }}{% endfor %}assistant: ")
    assert templates.build(TemplateSettings(name=str(file)), tokenizer).answer_end == " end"
    assert templates.build(TemplateSettings(name="mftcoder"), tokenizer).answer_end == "\n"
    assert templates.build(TemplateSettings(name="chatml"), tokenizer).answer_end == ""


@pytest.mark.parametrize("name", ["llama2", "vicuna"])
@pytest.mark.parametrize("content", ["yes", " yes", "", " ", "  two\n"])
def test_what_a_template_begins_answers_with_is_no_part_of_them(
    tokenizer_folder: Path, name: str, content: str
) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    loaded = opened(tokenizer, templates.build(TemplateSettings(name=name), tokenizer))
    assert loaded.answer_start == " "
    check(loaded, content)


def test_a_begun_answer_is_gone_on_with(tokenizer_folder: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    loaded = opened(tokenizer, templates.build(TemplateSettings(name="chatml"), tokenizer))
    begun = [Message("user", "q"), Message("assistant", "It is")]
    ids = prompt_ids(loaded, begun, continue_final=True)
    assert tokenizer.decode(ids) == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nIt is"
    assert prompt_ids(loaded, [Message("text", "Once")]) == tokenizer.encode_one([Piece("Once", 0.0, False)])
