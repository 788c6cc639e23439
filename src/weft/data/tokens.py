"""Text to ids, the same way everywhere: in training, evaluation, chat, serving and export.

A model folder's tokenizer, read from `tokenizer.json` without Transformers, and only when ids are needed. How conversations are cut
so that masks fall on token borders is in `data/stretches`; which library makes the ids in `data/encoders`.

Some SentencePiece-like tokenizers write a space before a text's first word. A stretch that goes on inside a text must not get
one, so it is encoded behind a sentinel whose ids are taken off again; which tokenizers need that is found by trying.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import tokenizers

from weft.data.encoders import Choice, Encoder, Reference, Wanted, choose
from weft.data.stretches import ControlToken, Cutter, Encoded, EncodedBatch
from weft.errors import DataError
from weft.files import sha256
from weft.types import JsonObject, Piece, Tokens

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""What belongs to a tokenizer in a model folder, to be copied beside trained weights."""

_PROBES = ("a", "A b", " a", "  a", "1", "中文", "é", "\n", "\n\na", "\ta", "'s", ".", "<a>", "ab\ncd")
_SENTINELS = ("\n", "\ue000", "\u0001", "|")
_NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")
_LOOKS_LIKE_CONTROL = re.compile(r"<[^\s<>]{1,80}>|\[[A-Z_/]{2,40}\]")
"""Added tokens such as `<tool_call>` that their tokenizer doesn't mark as special: in a user's text they too stay text."""


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer in a folder; the library behind it (`backend`) is loaded when first used.

    (Transformers' AutoTokenizer exchanges the pre-tokenizer of some model types, and so the ids; this never does.)
    """

    folder: Path
    config: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """The tokenizer in a folder. Raises DataError where there is none; whether it can be read shows when it is used."""
        folder = Path(folder)
        if not any((folder / name).is_file() for name in TOKENIZER_FILES):
            raise DataError(f"{folder}: no tokenizer here (looked for {', '.join(TOKENIZER_FILES)})")
        config_file = folder / "tokenizer_config.json"
        try:
            config = json.loads(config_file.read_text("utf-8")) if config_file.is_file() else {}
        except ValueError as error:
            raise DataError(f"{config_file}: not JSON in UTF-8: {error}") from error
        if not isinstance(config, dict):
            raise DataError(f"{config_file}: holds no JSON object")
        return cls(folder, config)

    @cached_property
    def _read(self) -> tuple[tokenizers.Tokenizer, frozenset[str]]:
        """The library's tokenizer, with every control token marked as special; and which of them were not."""
        file = self.folder / "tokenizer.json"
        backend = _from_file(file) if file.is_file() else _converted(self.folder)
        added = backend.get_added_tokens_decoder()
        unmarked = frozenset(
            t.content for t in added.values() if not t.special and _LOOKS_LIKE_CONTROL.fullmatch(t.content)
        )
        known = {token.content for token in added.values()}
        named = {text for name in _NAMED if (text := self.token(name)) and text not in known}
        plain = {text: number for text in named if (number := backend.token_to_id(text)) is not None}
        if unmarked or plain:
            description = json.loads(backend.to_str())
            for token in description["added_tokens"]:
                token["special"] = token["special"] or token["content"] in unmarked
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            description["added_tokens"] += [
                {"id": number, "content": text, **flags, "special": True} for text, number in plain.items()
            ]
            description["added_tokens"].sort(key=itemgetter("id"))
            backend = tokenizers.Tokenizer.from_str(json.dumps(description, ensure_ascii=False))
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        return backend, unmarked

    @property
    def backend(self) -> tokenizers.Tokenizer:
        """The library's tokenizer. Raises DataError where the files can't be read."""
        return self._read[0]

    # -- special tokens -------------------------------------------------------------------------------------------------------

    def token(self, name: str) -> str | None:
        """The text of `bos_token`, `eos_token`, … or None."""
        value = self.config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        return cast("str | None", value)

    def id_of(self, token: str) -> int | None:
        """The id of a control token; None for a text that only happens to be in the vocabulary."""
        number: int | None = self.backend.token_to_id(token) if token in self._control else None
        return number

    @cached_property
    def eos_token(self) -> str:
        """The text of the stop token. Raises DataError where the tokenizer names none."""
        token = self.token("eos_token")
        if token is None or self.id_of(token) is None:
            raise DataError(
                f"{self.folder}: the tokenizer names no eos_token that it knows ({token!r}), so no answer could ever end; "
                "set eos_token in tokenizer_config.json"
            )
        return token

    @cached_property
    def eos_id(self) -> int:
        return cast(int, self.id_of(self.eos_token))

    @cached_property
    def pad_id(self) -> int:
        """The padding token's id, or the stop token's where there is none: padding is never attended nor trained."""
        token = self.token("pad_token")
        number = self.id_of(token) if token is not None else None
        return self.eos_id if number is None else number

    @cached_property
    def bos_text(self) -> str:
        """The control tokens that the tokenizer itself puts before a plain text ('' for most)."""
        whole = self.backend.encode("a", add_special_tokens=True).ids
        body = self._raw("a")
        start = next(i for i in range(len(whole)) if whole[i : i + len(body)] == body)
        return "".join(self.backend.id_to_token(i) or "" for i in whole[:start])

    @cached_property
    def _control(self) -> dict[str, Any]:
        return {t.content: t for t in self.backend.get_added_tokens_decoder().values() if t.special}

    @cached_property
    def _control_pattern(self) -> re.Pattern[str] | None:
        names = sorted(self._control, key=len, reverse=True)
        return re.compile("(" + "|".join(re.escape(name) for name in names) + ")") if names else None

    def first_control(self, text: str) -> str | None:
        """The first control token that stands in a text."""
        found = self._control_pattern.search(text) if self._control_pattern else None
        return found.group(0) if found else None

    @cached_property
    def control_ids(self) -> frozenset[int]:
        return frozenset(cast(int, self.id_of(name)) for name in self._control)

    @cached_property
    def control(self) -> frozenset[str]:
        """The texts of all control tokens."""
        return frozenset(self._control)

    @property
    def vocab_size(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides ids: the tokenizer's files, and the special tokens that its settings name.

        A tokenizer that Transformers must convert depends on all its files, and on Transformers.
        """
        whole = (self.folder / "tokenizer.json").is_file()
        files = ["tokenizer.json"] if whole else [*TOKENIZER_FILES, "config.json"]
        parts: JsonObject = {name: sha256(self.folder / name) for name in files if (self.folder / name).is_file()}
        parts |= {name: self.token(name) for name in _NAMED}
        parts["transformers"] = "" if whole else version("transformers")
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    # -- encoding -------------------------------------------------------------------------------------------------------------

    @cached_property
    def _sentinel(self) -> tuple[str, list[int]] | None:
        """The sentinel for stretches that go on inside a text and its ids; None where none is needed.

        None is needed where each probe is encoded behind some text as it is alone (which text matters: tokens merge).
        """
        if all(any(self._raw(s + p) == self._raw(s) + self._raw(p) for s in _SENTINELS) for p in _PROBES):
            return None
        for sentinel in _SENTINELS:
            alone = self._raw(sentinel)
            if all(self._raw(sentinel + p)[: len(alone)] == alone for p in _PROBES):
                return sentinel, alone
        raise DataError(
            f"{self.folder}: no text can be encoded in the middle of another with this tokenizer; please report it"
        )

    @cached_property
    def _goes_on_after_control(self) -> bool:
        """Whether text behind a control token is encoded as if it went on (Metaspace 'first'), or as if it began a text."""
        if self._sentinel is None or not self._control:
            return False
        name = next(iter(self._control))
        self.backend.encode_special_tokens = False
        behind = self._raw("a" + name + "a")
        self.backend.encode_special_tokens = True
        return behind[-len(self._raw("a")) :] != self._raw("a")

    def _raw(self, text: str) -> list[int]:
        return self.backend.encode(text, add_special_tokens=False).ids

    @cached_property
    def _cutter(self) -> Cutter:
        control = {
            name: ControlToken(cast(int, self.id_of(name)), t.lstrip, t.rstrip) for name, t in self._control.items()
        }
        sentinel, alone = self._sentinel or ("", [])
        return Cutter(control, sentinel, tuple(alone), self._goes_on_after_control)

    def choose_encoder(self, wanted: Wanted, num_bytes: int, parallel: bool | None = None) -> Choice:
        """The library for so many bytes of text: see `data/encoders`. Raises ConfigError."""
        return choose(wanted, self.backend, self._description, self.control, num_bytes, parallel)

    def _description(self) -> str:
        file = self.folder / "tokenizer.json"
        return file.read_text("utf-8") if file.is_file() else self.backend.to_str()

    def encode_batch(self, samples: Sequence[Sequence[Piece] | Tokens], encoder: Encoder | None = None) -> EncodedBatch:
        """The tokens of rendered samples in flat arrays, all stretches in one batch call."""
        return self._cutter.encode(samples, encoder or Reference(self.backend))

    def encode(self, samples: Sequence[Sequence[Piece]]) -> list[Encoded]:
        """The tokens of rendered samples. Raises DataError for a text that can't be encoded in the middle of another."""
        batch = self.encode_batch(samples)
        if batch.faults:
            raise DataError(f"{self.folder}: {next(iter(batch.faults.values()))}")
        return [batch.sample(index) for index in range(len(samples))]

    def encode_one(self, pieces: Sequence[Piece]) -> list[int]:
        """The ids of one rendered prompt."""
        ids: list[int] = self.encode([pieces])[0].ids_T.tolist()
        return ids

    def decode(self, ids: Sequence[int], skip_control: bool = False) -> str:
        """The text of ids; `skip_control` leaves out the tokens that the tokenizer itself calls special."""
        if skip_control:
            ids = [number for number in ids if number not in self._special_ids]
        return self.backend.decode(list(ids), skip_special_tokens=False)

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(cast(int, self.id_of(name)) for name in self._control if name not in self._read[1])


def _from_file(file: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"{file}: not a tokenizer that can be read: {error}") from error


def _converted(folder: Path) -> tokenizers.Tokenizer:
    """A tokenizer that lies there in an older form only (`tokenizer.model`, `vocab.json`): Transformers converts it."""
    from transformers import AutoTokenizer

    try:
        converted: tokenizers.Tokenizer = AutoTokenizer.from_pretrained(str(folder)).backend_tokenizer
        return converted
    except Exception as error:
        raise DataError(
            f"{folder}: there is no tokenizer.json, and the tokenizer can't be converted: {error}. "
            "A tokenizer.model needs `pip install sentencepiece protobuf`; or save it once with save_pretrained."
        ) from error
