"""Tokens: the ids of cut-up text against the whole-text encoding of `tokenizers` itself, for every tokenizer at hand."""

from __future__ import annotations

import csv
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from tests.conftest import CORPUS, SHARED, need_shared
from weft.config.settings import TemplateSettings
from weft.data import templates
from weft.data.tokens import Tokenizer
from weft.errors import DataError
from weft.types import Message, Piece

SHARED_TOKENIZERS = {
    "gpt2": ("tokenizers", "gpt2"),
    "gpt-neox-20b": ("tokenizers", "gpt-neox-20b"),
    "llama2": ("tokenizers", "llama2"),
    "qwen": ("tokenizers", "qwen"),
    "deepseek-coder": ("tokenizers", "deepseek-coder"),
    "starcoder2": ("tokenizers", "starcoder2"),
    "stories260K": ("models", "stories260K"),
}
LOSSLESS = ("fixture", "gpt2", "llama2")
"""The others change text for good: NFC in qwen and gpt-neox, spaces in stories260K, missing bytes in starcoder2 and
deepseek-coder (which also decodes its added token õ as a byte)."""
MADE = ("strip", "first", "never", "always")
WITHOUT_BOS = ("fixture", "gpt2", "gpt-neox-20b", "qwen", "starcoder2", *MADE)

_loaded = cache(Tokenizer.load)


@cache
def _whole(folder: Path) -> tokenizers.Tokenizer:
    """The reference: the tokenizer as its file says, with offsets that the post-processor has not trimmed."""
    made_of = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    return tokenizers.Tokenizer.from_str(json.dumps({**made_of, "post_processor": None}))


@cache
def _plain(folder: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def _train(folder: Path, pre_tokenizer: Any, decoder: Any, special: list[AddedToken], replace: bool = False) -> None:
    """A small BPE with the special tokens </s>, <s>, <|user|>, <|bot|>."""
    folder.mkdir()
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False, byte_fallback=replace))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    bytes_ = [f"<0x{i:02X}>" for i in range(256)] if replace else []
    trainer = trainers.BpeTrainer(
        vocab_size=300 + len(bytes_),
        special_tokens=["<unk>", "</s>", *bytes_],
        initial_alphabet=["\n", " "] if replace else pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([line for text in CORPUS for line in text.splitlines()], trainer)
    made = json.loads(tokenizer.to_str())
    made["added_tokens"] = [token for token in made["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(made))
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))


@pytest.fixture(scope="session")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizers with the oddities that the shared ones lack."""
    root = tmp_path_factory.mktemp("made")
    strip = [AddedToken(name, lstrip=True, rstrip=True, special=True) for name in ("<|user|>", "<|bot|>")]
    plain = [AddedToken(name, special=True) for name in ("<|user|>", "<|bot|>")]
    _train(root / "strip", pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), strip)
    for scheme in ("first", "never", "always"):
        space = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)])
        _train(root / scheme, space, decoder, plain, replace=True)
    return root


@pytest.fixture(scope="session")
def folder_of(tokenizer_folder: Path, made_folder: Path) -> Any:
    def find(name: str) -> Path:
        if name == "fixture":
            return tokenizer_folder
        return made_folder / name if name in MADE else need_shared(*SHARED_TOKENIZERS[name])

    return find


def template_of(tokenizer: Tokenizer, name: str) -> templates.Template:
    """MFTCoder's markers; for the tokenizers made here, markers out of their own control tokens."""
    markers: Any = {"system": "System: ", "user": "<|user|>\n", "assistant": "<|bot|> \n"} if name in MADE else {}
    return templates.build(TemplateSettings(name="mftcoder", markers=markers), tokenizer)


ALL = ("fixture", *MADE, *SHARED_TOKENIZERS)
every_tokenizer = pytest.mark.parametrize("name", ALL)
some = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

FRAGMENTS = [
    "",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "\r\n",
    "'s",
    "1",
    "42",
    "é",
    "e\u0301",
    "中文",
    "🙂",
    "the weft",
    "\x1c",
    "\u2028",
]
contents = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
rounds = st.lists(st.tuples(contents, contents), min_size=1, max_size=3)


def messages_of(turns: list[tuple[str, str]], system: str | None = None) -> list[Message]:
    found = [] if system is None else [Message("system", system)]
    for question, answer in turns:
        found += [Message("user", question), Message("assistant", answer)]
    return found


def cuts_of(pieces: list[Piece]) -> list[int]:
    """The characters at which the pieces ask for a token border."""
    cuts, at, weight = [], 0, 0.0
    for piece in pieces:
        if piece.cut or piece.weight != weight:
            cuts.append(at)
        at, weight = at + len(piece.text), piece.weight
    return cuts


@every_tokenizer
@some
@given(turns=rounds, system=st.none() | contents)
@example([("a", "\n")], None)
@example([("  a ", " b  "), ("\x1c", "\x1c1")], " ")
def test_cut_up_text_has_the_ids_of_the_whole_where_no_token_reaches_over_a_cut(
    folder_of: Any, name: str, turns: list[tuple[str, str]], system: str | None
) -> None:
    tokenizer, whole = _loaded(folder_of(name)), _whole(folder_of(name))
    messages = messages_of(turns, system)
    assume(not any(tokenizer.first_control(m.content) for m in messages))
    pieces = template_of(tokenizer, name).render(messages, "all_answers")
    expected = whole.encode("".join(piece.text for piece in pieces), add_special_tokens=False)
    assume(not any(a < cut < b for cut in cuts_of(pieces) for a, b in expected.offsets))
    assert tokenizer.encode_one(pieces) == expected.ids


@every_tokenizer
def test_an_ordinary_conversation_is_one_where_nothing_reaches_over_a_cut(folder_of: Any, name: str) -> None:
    """Guards the test above: its assumption must hold for what people really write."""
    tokenizer, whole = _loaded(folder_of(name)), _whole(folder_of(name))
    messages = messages_of([("What is 1+1?", "It is 2."), ("Schön, 世界 🙂", "def f():\n    return 1")], "You help.")
    pieces = template_of(tokenizer, name).render(messages, "all_answers")
    expected = whole.encode("".join(piece.text for piece in pieces), add_special_tokens=False)
    assert not any(a < cut < b for cut in cuts_of(pieces) for a, b in expected.offsets)
    assert tokenizer.encode_one(pieces) == expected.ids


@every_tokenizer
@some
@given(turns=rounds, system=st.none() | contents)
def test_a_prompts_ids_are_a_prefix_of_the_training_ids_whatever_is_said(
    folder_of: Any, name: str, turns: list[tuple[str, str]], system: str | None
) -> None:
    tokenizer = _loaded(folder_of(name))
    template = template_of(tokenizer, name)
    messages = messages_of(turns, system)
    trained = tokenizer.encode_one(template.render(messages, "last_answer"))
    for number, message in enumerate(messages):
        if message.role == "assistant":
            prompt = tokenizer.encode_one(template.prompt(messages[:number]))
            assert trained[: len(prompt)] == prompt


@every_tokenizer
@some
@given(data=st.data())
def test_what_a_user_writes_never_becomes_a_control_id(folder_of: Any, name: str, data: st.DataObject) -> None:
    tokenizer = _loaded(folder_of(name))
    words = st.sampled_from([*sorted(tokenizer.control), *(f" {name} " for name in sorted(tokenizer.control))])
    text = st.lists(words | contents, min_size=1, max_size=4).map("".join)
    messages = messages_of(data.draw(st.lists(st.tuples(text, text), min_size=1, max_size=2)), data.draw(text))
    pieces = template_of(tokenizer, name).render(messages, "all_answers")
    written = "".join(piece.text for piece in pieces if piece.control)
    expected = sum(written.count(control) for control in tokenizer.control)
    ids = tokenizer.encode_one(pieces)
    unknown = tokenizer.id_of("<unk>")
    assert sum(i in tokenizer.control_ids and i != unknown for i in ids) == expected


@pytest.mark.parametrize("name", LOSSLESS)
@some
@given(text=contents)
def test_decoding_gives_the_text_back_where_the_tokenizer_loses_nothing(folder_of: Any, name: str, text: str) -> None:
    tokenizer = _loaded(folder_of(name))
    assert tokenizer.decode(tokenizer.encode_one([Piece(text, 1.0, False)])) == text


@every_tokenizer
@some
@given(text=contents)
def test_a_document_is_the_tokenizers_own_encoding_of_it_and_the_stop_token(
    folder_of: Any, name: str, text: str
) -> None:
    tokenizer = _loaded(folder_of(name))
    assume(not tokenizer.first_control(text))
    pieces = templates.document([Message("text", text)], tokenizer)
    assert pieces is not None
    plain = _plain(folder_of(name))
    assert tokenizer.encode_one(pieces) == [*plain.encode(text, add_special_tokens=True).ids, tokenizer.eos_id]


@every_tokenizer
def test_bos_text_is_what_the_tokenizers_post_processor_writes(folder_of: Any, name: str) -> None:
    expected = "" if name in WITHOUT_BOS else {"deepseek-coder": "<｜begin▁of▁sentence｜>"}.get(name, "<s>")
    assert _loaded(folder_of(name)).bos_text == expected


@every_tokenizer
def test_weights_lie_on_the_tokens_of_their_pieces(folder_of: Any, name: str) -> None:
    """Each piece encoded by itself, behind what comes before it, has as many tokens as carry its weight."""
    tokenizer = _loaded(folder_of(name))
    pieces = [Piece("one two", 0.25, False), Piece("three", 0.5, False), Piece("four five", 1.0, False)]
    encoded = tokenizer.encode([pieces])[0]
    assert len(encoded.ids_T) == len(encoded.weight_T)
    done = 0
    for number, piece in enumerate(pieces, 1):
        upto = len(tokenizer.encode_one(pieces[:number]))
        assert set(encoded.weight_T[done:upto].tolist()) == {piece.weight}
        done = upto
    assert done == len(encoded.ids_T)


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("gpt2", "gpt-2"),
        ("qwen", "qwen2"),
        ("deepseek-coder", "deepseek-coder"),
        ("starcoder2", "starcoder"),
        ("llama2", "llama-spm"),
        ("gpt-neox-20b", "mpt"),
    ],
)
def test_ids_are_those_that_llama_cpp_publishes(folder_of: Any, name: str, golden: str) -> None:
    base = need_shared("golden", "llamacpp_vocab") / f"ggml-vocab-{golden}.gguf"
    texts = Path(f"{base}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")[:-1]
    lines = Path(f"{base}.out").read_text().split("\n")[: len(texts)]
    assert len(texts) == 46
    encoded = _loaded(folder_of(name)).encode([[Piece(text, 1.0, False)] for text in texts])
    wrong = [
        text
        for text, line, found in zip(texts, lines, encoded, strict=True)
        if found.ids_T.tolist() != [int(number) for number in line.split()]
    ]
    assert not wrong


def test_ids_are_those_that_jtokkit_publishes(folder_of: Any) -> None:
    with need_shared("golden", "jtokkit", "r50k_base_encodings.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    encoded = _loaded(folder_of("gpt2")).encode([[Piece(row["input"], 1.0, False)] for row in rows])
    assert len(rows) > 50
    assert [e.ids_T.tolist() for e in encoded] == [json.loads(row["output"]) for row in rows]


def test_nothing_at_all_has_no_ids(tokenizer_folder: Path) -> None:
    tokenizer = _loaded(tokenizer_folder)
    for pieces in ([], [Piece("", 1.0, False)]):
        encoded = tokenizer.encode([pieces])[0]
        assert (encoded.ids_T.tolist(), encoded.weight_T.tolist()) == ([], [])
    assert tokenizer.encode([]) == []


def test_a_tokenizers_own_truncation_and_padding_are_turned_off(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    piece = Piece("a longer text than three tokens", 1.0, False)
    assert Tokenizer.load(tmp_path).encode_one([piece]) == _loaded(tokenizer_folder).encode_one([piece])


def test_a_normalizer_that_lowers_case_leaves_control_tokens_alone(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = Tokenizer.load(tmp_path)
    assert found.encode_one([Piece("<|im_end|>", 0.0, True)]) == [found.id_of("<|im_end|>")]


@pytest.mark.parametrize("config", [{}, {"eos_token": None}, {"eos_token": "<|nowhere|>"}])
def test_a_tokenizer_without_a_stop_token_is_refused(
    tokenizer_folder: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    shutil.copy(tokenizer_folder / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="eos_token"):
        _ = Tokenizer.load(tmp_path).eos_token


def test_a_token_may_be_written_as_an_object(tokenizer_folder: Path, tmp_path: Path) -> None:
    shutil.copy(tokenizer_folder / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "</s>", "lstrip": False}}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.eos_id == tokenizer.id_of("</s>") == tokenizer.pad_id


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no tokenizer here.*tokenizer\.json"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_tokenizer_file_is_named(tokenizer_folder: Path, tmp_path: Path, file: str, damage: bytes) -> None:
    for each in tokenizer_folder.iterdir():
        shutil.copy(each, tmp_path)
    (tmp_path / file).write_bytes(damage)
    with pytest.raises(DataError, match=file.replace(".", r"\.")):
        _ = Tokenizer.load(tmp_path).eos_token


def test_the_fingerprint_changes_with_whatever_decides_ids(tokenizer_folder: Path, tmp_path: Path) -> None:
    before = _loaded(tokenizer_folder).fingerprint
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == before
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "pad_token": "<pad>"}))
    other_stop = Tokenizer.load(tmp_path).fingerprint
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|new|>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert len({before, other_stop, Tokenizer.load(tmp_path).fingerprint}) == 3


def test_every_shared_tokenizer_is_among_those_tested() -> None:
    if not SHARED.is_dir():
        pytest.skip("needs the shared assets, which are not on this machine")
    there = {file.parent.name for file in SHARED.glob("*/*/tokenizer.json")}
    assert there <= set(SHARED_TOKENIZERS)


def test_a_stop_token_that_only_the_settings_name_is_a_control_token(tokenizer_folder: Path, tmp_path: Path) -> None:
    """As Transformers has it: without that, the letters of `</s>` would be trained in place of the token."""
    folder = tmp_path / "plain"
    shutil.copytree(tokenizer_folder, folder)
    made_of = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    marked = {token["content"]: token["id"] for token in made_of["added_tokens"]}
    made_of["model"]["vocab"] |= marked
    made_of["added_tokens"] = []
    (folder / "tokenizer.json").write_text(json.dumps(made_of), "utf-8")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.eos_id == marked[tokenizer.eos_token]
    pieces = [Piece("a", 0.0, False), Piece(tokenizer.eos_token, 1.0, True), Piece(tokenizer.eos_token, 0.0, False)]
    ids = tokenizer.encode_one(pieces)
    assert ids.count(tokenizer.eos_id) == 1, "the template's, not the user's"
    assert tokenizer.id_of("a") is None, "a text that is in the vocabulary is no control token"


def test_what_a_conversion_depends_on_is_in_the_fingerprint(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(tokenizer_folder, folder)
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    found = set()
    for text in ('{"add_prefix_space": true}', '{"add_prefix_space": false}', '{"unk_token": "<unk>"}'):
        (folder / "tokenizer_config.json").write_text(text)
        found.add(Tokenizer.load(folder).fingerprint)
    assert len(found) == 3
