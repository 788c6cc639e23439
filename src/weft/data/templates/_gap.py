"""Fill-in-the-middle: a document with a gap, in the words of the tokenizer's own family (arXiv 2207.14255).

    <fim_prefix> before <fim_suffix> after <fim_middle> [gap EOS]      brackets trained

Which family it is, is told by the tokens that the tokenizer has. What stands before the gap comes first (PSM) where the family
publishes it so, which is all but Mistral's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import FIM_ROLES, Message, Piece


class _Family(NamedTuple):
    """The tokens before each part, in the order they are written; `end` is a stop token of its own ('': the tokenizer's EOS)."""

    parts: tuple[tuple[str, str], ...]
    end: str = ""

    @property
    def tokens(self) -> list[str]:
        return [token for _, token in self.parts if token] + ([self.end] if self.end else [])


def _psm(prefix: str, suffix: str, middle: str, end: str = "") -> _Family:
    return _Family((("fim_prefix", prefix), ("fim_suffix", suffix), ("assistant", middle)), end)


_FAMILIES = {
    "StarCoder, StableCode, Granite": _psm("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    "SantaCoder": _psm("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    "Qwen-Coder, CodeGemma": _psm("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    "DeepSeek-Coder": _psm("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    "CodeLlama": _psm("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),
    "Codestral": _Family((("fim_suffix", "[SUFFIX]"), ("fim_prefix", "[PREFIX]"), ("assistant", ""))),
}


def gap(messages: Sequence[Message], tokenizer: Tokenizer, to_go_on: bool = False) -> list[Piece]:
    """The pieces of a document with a gap, up to where the gap's text begins if there is none; `to_go_on`: without a stop token.

    Raises TemplateError where the tokenizer has no tokens for it.
    """
    roles = [message.role for message in messages]
    if sorted(set(roles) - {"assistant"}) != sorted(set(roles) & set(FIM_ROLES)) or len(set(roles)) != len(roles):
        raise TemplateError(
            f"a document with a gap has {', '.join(FIM_ROLES)} and one assistant message, each once; these are {', '.join(roles)}"
        )
    family = next((f for f in _FAMILIES.values() if all(tokenizer.id_of(t) is not None for t in f.tokens)), None)
    if family is None:
        raise TemplateError(
            f"the tokenizer in {tokenizer.folder} has no fill-in-the-middle tokens (looked for those of {'; '.join(_FAMILIES)}); "
            "write the rows as prompts with the task's own `user` and `assistant` templates, or take a model that has them"
        )
    contents = {message.role: message for message in messages}
    pieces = [Piece(tokenizer.bos_text, 0.0, True)]
    for role, token in family.parts:
        message = contents.get(role)
        pieces.append(Piece(token, 0.0, True))
        if role != "assistant":
            pieces.append(Piece(message.content if message else "", 0.0, False))
        elif message is not None:
            weight = 1.0 if message.weight is None else message.weight
            pieces.append(Piece(message.content, weight, False, cut=True))
            if not to_go_on:
                pieces.append(Piece(family.end or tokenizer.eos_token, weight, True))
    return [piece for piece in pieces if piece.text or piece.cut]
