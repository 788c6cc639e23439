"""Vicuna v1.1: `BOS system⏎⏎USER: question⏎ASSISTANT:[ answerEOS]⏎`, brackets trained; the space before an answer is the model's."""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, opened
from weft.data.tokens import Tokenizer

MARKERS = {"system": "", "user": "USER: ", "assistant": "ASSISTANT:"}


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    return MarkerTemplate(
        name="vicuna",
        tokenizer=tokenizer,
        first=tokenizer.bos_text,
        opening=opened(settings, "vicuna", MARKERS),
        closing={"system": "\n\n", "user": "\n"},
        answer_start=" ",
        stop=tokenizer.eos_token,
        after_answer="\n",
        system=settings.system,
    )
