"""Phi-3: `<|user|>⏎question<|end|>⏎<|assistant|>⏎[answer<|end|>]⏎`, brackets trained, behind what the tokenizer itself begins with."""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, fixed_markers, require
from weft.data.tokens import Tokenizer

ROLES = ("system", "user", "assistant")


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    require("phi", tokenizer, "<|user|>", "<|assistant|>", "<|end|>")
    fixed_markers(settings, "phi")
    return MarkerTemplate(
        name="phi",
        tokenizer=tokenizer,
        first=tokenizer.bos_text,
        opening={role: f"<|{role}|>\n" for role in ROLES},
        closing=dict.fromkeys(ROLES, "<|end|>\n"),
        stop="<|end|>",
        after_answer="\n",
        system=settings.system,
    )
