"""DeepSeek-Coder: `BOS system### Instruction:⏎question⏎### Response:⏎[answer⏎<|EOT|>]⏎`, brackets trained.

Nothing stands between a system message and the first turn; conversations without one get the family's own.
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, opened, require
from weft.data.tokens import Tokenizer

MARKERS = {"system": "", "user": "### Instruction:\n", "assistant": "### Response:\n"}
SYSTEM = (
    "You are an AI programming assistant, utilizing the Deepseek Coder model, developed by Deepseek Company, and you only answer "
    "questions related to computer science. For politically sensitive questions, security and privacy issues, and other "
    "non-computer science questions, you will refuse to answer\n"
)


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    require("deepseek_coder", tokenizer, "<|EOT|>")
    return MarkerTemplate(
        name="deepseek_coder",
        tokenizer=tokenizer,
        first=tokenizer.token("bos_token") or "",
        default_system=SYSTEM,
        opening=opened(settings, "deepseek_coder", MARKERS),
        closing={"system": "", "user": "\n"},
        answer_end="\n",
        stop="<|EOT|>",
        after_answer="\n",
        system=settings.system,
    )
