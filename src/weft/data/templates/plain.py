"""No markers at all: the texts one after another, EOS behind each answer. For base models and for prompts that say it all."""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, opened
from weft.data.tokens import Tokenizer

ROLES = ("system", "user", "assistant")


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    return MarkerTemplate(
        name="plain",
        tokenizer=tokenizer,
        first=tokenizer.bos_text,
        opening=opened(settings, "plain", dict.fromkeys(ROLES, "")),
        closing=dict.fromkeys(ROLES, ""),
        stop=tokenizer.eos_token,
        system=settings.system,
    )
