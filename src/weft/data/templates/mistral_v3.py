"""Mistral v3 (Mistral-7B-Instruct v0.3, Mixtral-8x22B): `BOS[INST] question[/INST][ answerEOS]`, with tools; `[INST]` is a token."""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate
from weft.data.templates._mistral import mistral
from weft.data.tokens import Tokenizer


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    return mistral("mistral_v3", settings, tokenizer, before="", after=" ", has_tokens=True)
