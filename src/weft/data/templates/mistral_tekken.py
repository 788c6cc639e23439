"""Mistral v3 on the Tekken tokenizer (Mistral-Nemo): `BOS[INST]question[/INST][answerEOS]`, with tools; no spaces."""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate
from weft.data.templates._mistral import mistral
from weft.data.tokens import Tokenizer


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    return mistral("mistral_tekken", settings, tokenizer, before="", after="", has_tokens=True)
