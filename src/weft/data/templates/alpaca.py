"""Alpaca: `### Instruction:⏎question⏎⏎### Response:⏎[answerEOS]⏎⏎`, brackets trained, behind a sentence that a system message replaces.

(Stanford's first text has no line break after `Response:`; nearly all models since are trained with one.)
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, opened
from weft.data.tokens import Tokenizer

MARKERS = {"system": "", "user": "### Instruction:\n", "assistant": "### Response:\n"}
SENTENCE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    return MarkerTemplate(
        name="alpaca",
        tokenizer=tokenizer,
        first=tokenizer.bos_text,
        default_system=SENTENCE,
        opening=opened(settings, "alpaca", MARKERS),
        closing={"system": "\n\n", "user": "\n\n"},
        stop=tokenizer.eos_token,
        after_answer="\n\n",
        system=settings.system,
    )
