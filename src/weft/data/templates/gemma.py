"""Gemma: `<bos><start_of_turn>user⏎system⏎⏎question<end_of_turn>⏎<start_of_turn>model⏎[answer<end_of_turn>]⏎`, brackets trained.

Contents are trimmed but for the system message, which goes into the first user turn (as Gemma 3 does; the first two refuse one).
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, fixed_markers, require
from weft.data.tokens import Tokenizer


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    require("gemma", tokenizer, "<start_of_turn>", "<end_of_turn>")
    fixed_markers(settings, "gemma")
    user = "<start_of_turn>user\n"
    return MarkerTemplate(
        name="gemma",
        tokenizer=tokenizer,
        first=tokenizer.token("bos_token") or "",
        opening={"system": user, "user": user, "assistant": "<start_of_turn>model\n"},
        closing={"user": "<end_of_turn>\n"},
        joints={("system", "user"): "\n\n"},
        follows={"": ("system", "user"), "system": ("user",), "user": ("assistant",), "assistant": ("user",)},
        trimmed=frozenset(("user", "assistant")),
        stop="<end_of_turn>",
        after_answer="\n",
        system=settings.system,
    )
