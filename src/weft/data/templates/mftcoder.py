"""MFTCoder's role markers: `<s>human⏎question⏎<s>bot⏎[answer⏎EOS]⏎`, brackets trained, no BOS of its own.

`template.markers` replaces the markers: {system: "### System:\\n", user: "### Instruction:\\n", assistant: "### Response:\\n"}.
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate
from weft.data.tokens import Tokenizer

MARKERS = {"system": "<s>system\n", "user": "<s>human\n", "assistant": "<s>bot\n", "tool": "<s>tool\n"}


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    markers: dict[str, str] = MARKERS | {str(role): text for role, text in settings.markers.items()}
    return MarkerTemplate(
        name="mftcoder",
        tokenizer=tokenizer,
        opening=markers,
        closing=dict.fromkeys(markers, "\n"),
        answer_end="\n",
        stop=tokenizer.eos_token,
        after_answer="\n",
        system=settings.system,
    )
