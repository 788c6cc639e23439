"""MFTCoder's role markers: `<s>human⏎question⏎<s>bot⏎[answer⏎EOS]⏎`, brackets trained, no BOS of its own.

`template.markers` replaces the markers: {system: "### System:\\n", user: "### Instruction:\\n", assistant: "### Response:\\n"}.
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, opened
from weft.data.tokens import Tokenizer

MARKERS = {"system": "<s>system\n", "user": "<s>human\n", "assistant": "<s>bot\n", "tool": "<s>tool\n"}


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    return MarkerTemplate(
        name="mftcoder",
        tokenizer=tokenizer,
        opening=opened(settings, "mftcoder", MARKERS),
        closing=dict.fromkeys(MARKERS, "\n"),
        answer_end="\n",
        stop=tokenizer.eos_token,
        after_answer="\n",
        system=settings.system,
    )
