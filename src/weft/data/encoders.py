"""The libraries that turn texts into ids: `tokenizers`, the reference, and `gigatoken`, many times faster where it can be used.

The one idea: speed is taken only where it is proven. Before gigatoken is used it must give the reference's ids for a few hundred
awkward texts; while it works, some texts of every batch are encoded by both. One difference, and the reference does all of it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import tokenizers

from weft.errors import ConfigError

Wanted: TypeAlias = Literal["auto", "gigatoken", "tokenizers"]
WORTHWHILE_BYTES = 1 << 21
"""Below so many bytes of source, loading a second library costs more than it saves."""

_CHECKED_OF_A_BATCH = 8


class Ragged(NamedTuple):
    """The ids of N texts, one after another: those of text i are `flat[offsets[i] : offsets[i + 1]]`."""

    flat: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]


class Encoder(Protocol):
    """Texts to ids, without special tokens; what looks like one stays text."""

    @property
    def name(self) -> str: ...

    def encode(self, texts: list[str]) -> Ragged: ...


class IdsDifferError(Exception):
    """A fast encoder gave other ids than the reference; nothing that it made may be used."""


class Reference:
    """Hugging Face's `tokenizers`."""

    name = "tokenizers"

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend

    def encode(self, texts: list[str]) -> Ragged:
        found = [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)]
        offsets = np.zeros(len(found) + 1, dtype=np.int64)
        np.cumsum([len(ids) for ids in found], out=offsets[1:])
        return Ragged(np.fromiter(chain.from_iterable(found), dtype=np.int32, count=int(offsets[-1])), offsets)


class Gigatoken:
    """The library `gigatoken` (pypi.org/project/gigatoken), watched by the reference."""

    name = "gigatoken"

    def __init__(self, encode_batch: Callable[[list[str]], Any], reference: Reference) -> None:
        self._encode_batch, self._reference = encode_batch, reference

    def encode(self, texts: list[str]) -> Ragged:
        """Raises IdsDifferError."""
        if not texts:
            return Ragged(np.zeros(0, dtype=np.int32), np.zeros(1, dtype=np.int64))
        layout = self._encode_batch(texts).layout
        offsets = np.asarray(layout.offsets.data, dtype=np.int64)
        flat = np.asarray(layout.content.data)[: offsets[-1]].astype(np.int32)
        found = Ragged(flat, offsets)
        _compare(found, texts, self._reference, range(0, len(texts), -(-len(texts) // _CHECKED_OF_A_BATCH)))
        return found


def _compare(found: Ragged, texts: list[str], reference: Reference, chosen: Sequence[int]) -> None:
    expected = reference.encode([texts[i] for i in chosen])
    for place, i in enumerate(chosen):
        ours = found.flat[found.offsets[i] : found.offsets[i + 1]]
        theirs = expected.flat[expected.offsets[place] : expected.offsets[place + 1]]
        if not np.array_equal(ours, theirs):
            raise IdsDifferError(
                f"other ids for {texts[i][:80]!r}: {ours[:8].tolist()} instead of {theirs[:8].tolist()}"
            )


class Choice(NamedTuple):
    """An encoder and why it was chosen, in words."""

    encoder: Encoder
    why: str


def choose(
    wanted: Wanted,
    backend: tokenizers.Tokenizer,
    description: Callable[[], str],
    control: frozenset[str],
    num_bytes: int,
    parallel: bool | None = None,
) -> Choice:
    """The encoder for so many bytes of text; `description` gives the tokenizer as JSON, `control` are its control tokens.

    Raises ConfigError where gigatoken was asked for by name and can't be used.
    """
    reference = Reference(backend)
    if wanted == "tokenizers":
        return Choice(reference, "as data.tokenizer says")
    if wanted == "auto" and num_bytes < WORTHWHILE_BYTES:
        return Choice(reference, "there is little text")
    try:
        import gigatoken
    except ImportError:
        if wanted == "gigatoken":
            raise ConfigError("data.tokenizer: gigatoken is not installed; pip install 'weft[fast]'") from None
        return Choice(reference, "gigatoken is not installed; pip install 'weft[fast]' makes this many times faster")
    try:
        fast = gigatoken.Tokenizer.from_json(_without_control(description(), control))
        encoder = Gigatoken(lambda texts: fast.encode_batch(texts, parallel=parallel), reference)
        probes = awkward_texts(control)
        _compare(encoder.encode(probes), probes, reference, range(len(probes)))
    except Exception as error:  # a foreign library's refusal has no narrower type
        why = f"gigatoken can't be used with this tokenizer: {str(error).splitlines()[0]}"
        if wanted == "gigatoken":
            raise ConfigError(f"data.tokenizer: {why}; use auto or tokenizers") from error
        return Choice(reference, why)
    return Choice(encoder, f"proven equal to tokenizers on {len(probes)} texts, and on some of every batch")


def _without_control(description: str, control: frozenset[str]) -> str:
    """The tokenizer without its control tokens: texts that spell one stay text, as the reference has it.

    Only these parts of the JSON are read and written anew: the rest is megabytes of vocabulary.
    """
    for key in ("added_tokens", "post_processor", "truncation", "padding"):
        place = description.find(f'"{key}"')
        start = description.find(":", place) + 1
        if place < 0:
            continue
        start += len(description[start : start + 80]) - len(description[start : start + 80].lstrip())
        value, end = json.JSONDecoder().raw_decode(description, start)
        left = [token for token in value if token["content"] not in control] if key == "added_tokens" else None
        description = description[:start] + json.dumps(left) + description[end:]
    return description


_SCRIPTS = (
    "abcdefghijklmnopqrstuvwxyzABCXYZ", "0123456789", " \t\n\r\v\f\x85\xa0\u2003\u2028\u3000", ".,;:!?'\"`-_()[]{}<>/\\|@#$%^&*+=~",
    "éèüßñåø", "中文字符漢語。，", "かなカナ漢", "한국어", "русский", "ελληνικά", "العربية", "עברית", "हिन्दी", "ไทย",
    "😀👍🏽👩\u200d👩\u200d👧🇩🇪", "\u0301\u0308\u200b\u200d\ufe0f\u202e", "\x00\x01\x1b\x7f", "½²Ⅷ①", "ﬁﬀ", "ａＢ１", "𝔘𝕏𐍈", "\ufffd\ue000",
)  # fmt: skip


def awkward_texts(control: frozenset[str]) -> list[str]:
    """Some hundred texts on which tokenizers are known to differ, the same every time."""
    texts = [*control, *(f"a {name} b" for name in control), *(f"{name}{name}" for name in control)]
    texts += [
        "I'm you'll WE'VE don'T 's",
        "x = [[1,2],[3]]\n\n\n    return  x\r\n\r\n",
        "1234567890 3.14e-10 0x1F",
        "  \n \t x  ",
        "a" * 300,
    ]
    texts += [
        "http://a.b/c?d=e&f#g",
        "<s>[INST] x [/INST]</s>",
        "\n" * 40,
        " " * 97,
        "\t" * 33 + "x",
        "e\u0301 \u00e9",
        "�",
        "ſ K Å",
    ]
    draw = random.Random(0)
    for _ in range(400):
        scripts = draw.sample(_SCRIPTS, draw.randint(1, 4))
        texts.append("".join(draw.choice(draw.choice(scripts)) for _ in range(draw.randint(1, 60))))
    for _ in range(60):
        texts.append(
            "".join(
                chr(draw.choice((draw.randrange(0x20, 0x3000), draw.randrange(0xE000, 0x10FFFF)))) for _ in range(20)
            )
        )
    return texts
