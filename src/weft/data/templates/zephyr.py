"""Zephyr: `<|user|>⏎questionEOS⏎<|assistant|>⏎[answerEOS]⏎`, brackets trained; the markers are plain text, and there is no BOS."""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, opened
from weft.data.tokens import Tokenizer

ROLES = ("system", "user", "assistant")


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    end = tokenizer.eos_token
    return MarkerTemplate(
        name="zephyr",
        tokenizer=tokenizer,
        opening=opened(settings, "zephyr", {role: f"<|{role}|>\n" for role in ROLES}),
        closing=dict.fromkeys(ROLES, end + "\n"),
        stop=end,
        after_answer="\n",
        system=settings.system,
    )
