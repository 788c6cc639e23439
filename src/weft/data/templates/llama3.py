"""Llama-3: `BOS<|start_header_id|>user<|end_header_id|>⏎⏎question<|eot_id|>…assistant…⏎⏎[answer<|eot_id|>]`, brackets trained.

Contents are trimmed, as in the published template. Tools came with Llama-3.1, whose text holds a date: take the tokenizer's own.
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, fixed_markers, require
from weft.data.tokens import Tokenizer

ROLES = ("system", "user", "assistant")


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    require("llama3", tokenizer, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    fixed_markers(settings, "llama3")
    return MarkerTemplate(
        name="llama3",
        tokenizer=tokenizer,
        first=tokenizer.token("bos_token") or "",
        opening={role: f"<|start_header_id|>{role}<|end_header_id|>\n\n" for role in ROLES},
        closing=dict.fromkeys(ROLES, "<|eot_id|>"),
        trimmed=frozenset(ROLES),
        stop="<|eot_id|>",
        system=settings.system,
    )
