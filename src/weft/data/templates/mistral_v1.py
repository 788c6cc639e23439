"""Mistral v1 (Mistral-7B-Instruct v0.1 and v0.2, Mixtral-8x7B): `BOS [INST] question [/INST][ answerEOS]`, plain text."""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate
from weft.data.templates._mistral import mistral
from weft.data.tokens import Tokenizer


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    return mistral("mistral_v1", settings, tokenizer, before=" ", after=" ", has_tokens=False)
