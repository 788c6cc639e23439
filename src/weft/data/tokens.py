"""Text to ids, the same way everywhere: in training, evaluation, chat, serving and export.

The one idea: a rendered conversation is cut where the model starts and stops to write, whether that answer is trained or not, and
at control tokens; the stretches between are encoded apart. So the ids of a prompt are always a prefix of the ids of the
conversation, the mask falls on token borders by construction, and a `</s>` in a user's text stays text.

    pieces    <s>human⏎ What is 1+1? ⏎<s>bot⏎ | 2⏎</s> | ⏎<s>human⏎ …
    stretches <s> [human⏎What is 1+1?⏎] <s> [bot⏎] | [2⏎] </s> | [⏎] <s> [human⏎ …]

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
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import tokenizers

from weft.errors import DataError
from weft.types import Piece

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
_WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
"""What `lstrip` and `rstrip` of an added token take away: Unicode's white space, which is not quite Python's."""


class Encoded(NamedTuple):
    """A sample's tokens: ids_T int32 and weight_T float32 (0: context)."""

    ids_T: npt.NDArray[np.int32]
    weight_T: npt.NDArray[np.float32]


class _Stretch(NamedTuple):
    text: str
    goes_on: bool


@dataclass(frozen=True)
class Tokenizer:
    """A model folder's tokenizer, read from `tokenizer.json` without Transformers.

    (Transformers' AutoTokenizer exchanges the pre-tokenizer of some model types, and so the ids; this never does.)
    """

    folder: Path
    backend: tokenizers.Tokenizer
    config: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """The tokenizer in a folder. Raises DataError where it has none that can be read."""
        folder = Path(folder)
        file = folder / "tokenizer.json"
        backend = _read(file) if file.is_file() else _converted(folder)
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        config_file = folder / "tokenizer_config.json"
        try:
            config = json.loads(config_file.read_text("utf-8")) if config_file.is_file() else {}
        except ValueError as error:
            raise DataError(f"{config_file}: not JSON in UTF-8: {error}") from error
        if not isinstance(config, dict):
            raise DataError(f"{config_file}: holds no JSON object")
        return cls(folder, backend, config)

    # -- special tokens -------------------------------------------------------------------------------------------------------

    def token(self, name: str) -> str | None:
        """The text of `bos_token`, `eos_token`, … or None."""
        value = self.config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        return cast("str | None", value)

    def id_of(self, token: str) -> int | None:
        return self.backend.token_to_id(token)

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

    @property
    def control_names(self) -> list[str]:
        return list(self._control)

    @property
    def vocab_size(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides ids."""
        text = self.backend.to_str() + json.dumps({k: self.token(k) for k in ("bos_token", "eos_token", "pad_token")})
        return hashlib.sha256(text.encode()).hexdigest()

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

    def encode(self, samples: Sequence[Sequence[Piece]]) -> list[Encoded]:
        """The tokens of rendered samples, all stretches in one batch call on all cores."""
        index: dict[_Stretch, int] = {}
        plans = [self._stretches(pieces, index) for pieces in samples]
        ids_of = self._encode_stretches(list(index))
        return [_joined(plan, ids_of) for plan in plans]

    def encode_one(self, pieces: Sequence[Piece]) -> list[int]:
        """The ids of one rendered prompt."""
        ids: list[int] = self.encode([pieces])[0].ids_T.tolist()
        return ids

    def decode(self, ids: Sequence[int], skip_control: bool = False) -> str:
        return self.backend.decode(list(ids), skip_special_tokens=skip_control)

    def _stretches(self, pieces: Sequence[Piece], index: dict[_Stretch, int]) -> list[tuple[int, float]]:
        """A sample as (stretch number, or -1 - id for a control token; weight); new stretches are added to `index`."""
        plan: list[tuple[int, float]] = []
        text, weight, goes_on, strip_next = "", 0.0, False, False

        def flush() -> None:
            nonlocal text, goes_on
            if text:
                plan.append((index.setdefault(_Stretch(text, goes_on), len(index)), weight))
                text, goes_on = "", True

        for piece in pieces:
            if piece.cut or piece.weight != weight:
                flush()
                weight = piece.weight
            parts = self._control_pattern.split(piece.text) if piece.control and self._control_pattern else [piece.text]
            for part in parts:
                token = self._control.get(part) if piece.control else None
                if token is None:
                    text += part.lstrip(_WHITE) if strip_next else part
                    strip_next = strip_next and not text
                    continue
                if token.lstrip:
                    text = text.rstrip(_WHITE)
                flush()
                plan.append((-1 - cast(int, self.id_of(part)), weight))
                goes_on, strip_next = self._goes_on_after_control, token.rstrip
        flush()
        return plan

    def _encode_stretches(self, stretches: Sequence[_Stretch]) -> list[npt.NDArray[np.int32]]:
        sentinel, alone = self._sentinel or ("", [])
        texts = [sentinel + s.text if s.goes_on else s.text for s in stretches]
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        found = []
        for stretch, encoding in zip(stretches, encodings, strict=True):
            ids = encoding.ids
            if alone and stretch.goes_on:
                if ids[: len(alone)] != alone:
                    raise DataError(
                        f"{self.folder}: {stretch.text[:40]!r} can't be encoded in the middle of a text; please report it"
                    )
                ids = ids[len(alone) :]
            found.append(np.asarray(ids, dtype=np.int32))
        return found


def _joined(plan: list[tuple[int, float]], ids_of: list[npt.NDArray[np.int32]]) -> Encoded:
    parts = [ids_of[number] if number >= 0 else np.array([-1 - number], dtype=np.int32) for number, _ in plan]
    weights = np.array([weight for _, weight in plan], dtype=np.float32)
    if not parts:
        return Encoded(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))
    return Encoded(np.concatenate(parts), np.repeat(weights, [len(part) for part in parts]))


def _read(file: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"{file}: not a tokenizer that can be read: {error}") from error


def _converted(folder: Path) -> tokenizers.Tokenizer:
    """A tokenizer that lies there in an older form only (`tokenizer.model`, `vocab.json`): Transformers converts it."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise DataError(f"{folder}: no tokenizer here (looked for {', '.join(TOKENIZER_FILES)})")
    from transformers import AutoTokenizer

    try:
        converted: tokenizers.Tokenizer = AutoTokenizer.from_pretrained(str(folder)).backend_tokenizer
        return converted
    except Exception as error:
        raise DataError(
            f"{folder}: there is no tokenizer.json, and the tokenizer can't be converted: {error}. "
            "A tokenizer.model needs `pip install sentencepiece protobuf`; or save it once with save_pretrained."
        ) from error
