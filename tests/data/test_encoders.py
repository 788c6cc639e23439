"""Encoders: gigatoken against `tokenizers`, id for id; the watch that notices a difference; the choice between them."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import CORPUS, SHARED, need_shared
from weft.data import encoders
from weft.data.encoders import Choice, Gigatoken, IdsDifferError, Ragged, Reference, awkward_texts
from weft.data.tokens import Tokenizer
from weft.errors import ConfigError

pytest.importorskip("gigatoken")

FAST = ("gpt2", "gpt-neox-20b", "llama2", "qwen")
"""Shared tokenizers that gigatoken reads; it refuses the other two, which then stay with the reference."""
SLOW = ("deepseek-coder", "starcoder2")


@cache
def _tokenizer(name: str) -> Tokenizer:
    need_shared()
    return Tokenizer.load(SHARED / "tokenizers" / name)


@cache
def _choice(name: str) -> Choice:
    tokenizer = _tokenizer(name)
    return tokenizer.choose_encoder("auto", 1 << 40, parallel=False)


def _ids(found: Ragged) -> list[list[int]]:
    return [found.flat[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]


def _golden() -> list[str]:
    need_shared()
    folder = SHARED / "golden"
    text = (folder / "llamacpp_vocab" / "ggml-vocab-gpt-2.gguf.inp").read_text("utf-8")
    texts = text.split("\n__ggml_vocab_test__\n")
    for file in ("cl100k_base_encodings.csv", "r50k_base_encodings.csv"):
        with (folder / "jtokkit" / file).open(encoding="utf-8", newline="") as rows:
            texts += [row["input"] for row in csv.DictReader(rows)]
    assert len(texts) > 800
    return texts


@pytest.mark.shared
@pytest.mark.parametrize("name", FAST)
def test_gigatoken_gives_the_references_ids_for_every_golden_string(name: str) -> None:
    encoder = _choice(name).encoder
    assert encoder.name == "gigatoken"
    texts = _golden()
    assert _ids(encoder.encode(texts)) == _ids(Reference(_tokenizer(name).backend).encode(texts))


@pytest.mark.shared
@pytest.mark.parametrize("name", FAST)
def test_gigatoken_gives_the_references_ids_for_real_rows(name: str) -> None:
    need_shared()
    folder = SHARED / "data"
    texts = [
        line for file in ("code_comment/django_all.code", "pretrain/wiki_demo.txt") for line in _lines(folder / file)
    ]
    for file in (
        "general_zh/alpaca_zh_demo.json",
        "code_instruct/code_alpaca_2k.json",
        "multiturn/dummy_conversation.json",
    ):
        texts += [json.dumps(row, ensure_ascii=False) for row in json.loads((folder / file).read_text("utf-8"))]
    texts = [text[:2000] for text in texts][::3]
    assert len(texts) > 7000
    assert _ids(_choice(name).encoder.encode(texts)) == _ids(Reference(_tokenizer(name).backend).encode(texts))


def _lines(file: Path) -> list[str]:
    return file.read_text("utf-8").split("\n")


@pytest.mark.shared
@pytest.mark.parametrize("name", FAST)
@given(texts=st.lists(st.text(max_size=80), max_size=20))
def test_gigatoken_gives_the_references_ids_for_any_unicode(name: str, texts: list[str]) -> None:
    assert _ids(_choice(name).encoder.encode(texts)) == _ids(Reference(_tokenizer(name).backend).encode(texts))


@pytest.mark.shared
@pytest.mark.parametrize("name", FAST)
def test_text_that_spells_a_control_token_stays_text(name: str) -> None:
    tokenizer = _tokenizer(name)
    texts = [f"{a}{b} {a}" for a in tokenizer.control for b in tokenizer.control]
    for ids in _ids(_choice(name).encoder.encode(texts)):
        assert not tokenizer.control_ids.intersection(ids)


@pytest.mark.shared
@pytest.mark.parametrize("name", SLOW)
def test_a_tokenizer_that_gigatoken_can_not_read_stays_with_the_reference(name: str) -> None:
    choice = _choice(name)
    assert choice.encoder.name == "tokenizers"
    assert choice.why.startswith("gigatoken can't be used with this tokenizer: ")
    tokenizer = _tokenizer(name)
    with pytest.raises(ConfigError, match="data.tokenizer: gigatoken can't be used"):
        tokenizer.choose_encoder("gigatoken", 1)


def test_little_text_is_not_worth_a_second_library(tokenizer_folder: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    few, many = (tokenizer.choose_encoder("auto", size) for size in (1000, 1 << 30))
    assert (few.encoder.name, many.encoder.name) == ("tokenizers", "gigatoken")
    assert tokenizer.choose_encoder("tokenizers", 1 << 30).encoder.name == "tokenizers"


@pytest.mark.parametrize("texts", [[], [""], ["", "a", ""], list(CORPUS), awkward_texts(frozenset({"</s>"}))])
def test_a_made_tokenizer_has_equal_ids_too(tokenizer_folder: Path, texts: list[str]) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    fast = tokenizer.choose_encoder("gigatoken", 0).encoder
    assert _ids(fast.encode(texts)) == _ids(Reference(tokenizer.backend).encode(texts))


def _wrong(reference: Reference, number: int) -> Gigatoken:
    """A library that gives another id for text `number`."""

    class Array:
        def __init__(self, data: object) -> None:
            self.data = data

    class Result:
        def __init__(self, found: Ragged) -> None:
            self.layout, self.offsets, self.content = self, Array(found.offsets), Array(found.flat)

    def encode_batch(texts: list[str]) -> Result:
        found = reference.encode(texts)
        found.flat[found.offsets[number]] += 1
        return Result(found)

    return Gigatoken(encode_batch, reference)


def test_a_difference_in_a_watched_text_is_noticed(tokenizer_folder: Path) -> None:
    reference = Reference(Tokenizer.load(tokenizer_folder).backend)
    texts = [f"What is {i}?" for i in range(100)]
    with pytest.raises(IdsDifferError, match="other ids for 'What is 13"):
        _wrong(reference, 13).encode(texts)
    for few in (1, 2, 7):
        with pytest.raises(IdsDifferError):
            _wrong(reference, few - 1).encode(texts[:few])


def test_a_library_that_fails_its_probes_is_not_used(tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    monkeypatch.setattr(encoders, "Gigatoken", lambda _, reference: _wrong(reference, 5))
    choice = tokenizer.choose_encoder("auto", 1 << 30)
    assert choice.encoder.name == "tokenizers"
    assert "other ids for" in choice.why
