"""OpenChat 3.5: `BOS GPT4 Correct User: question<|end_of_turn|>GPT4 Correct Assistant:[ answer<|end_of_turn|>]`, brackets trained."""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, fixed_markers, require
from weft.data.tokens import Tokenizer


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    require("openchat", tokenizer, "<|end_of_turn|>")
    fixed_markers(settings, "openchat")
    return MarkerTemplate(
        name="openchat",
        tokenizer=tokenizer,
        first=tokenizer.token("bos_token") or "",
        opening={
            "system": "GPT4 Correct System: ",
            "user": "GPT4 Correct User: ",
            "assistant": "GPT4 Correct Assistant:",
        },
        closing=dict.fromkeys(("system", "user"), "<|end_of_turn|>"),
        answer_start=" ",
        stop="<|end_of_turn|>",
        system=settings.system,
    )
