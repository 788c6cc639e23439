"""ChatML: `<|im_start|>user⏎question<|im_end|>⏎<|im_start|>assistant⏎[answer<|im_end|>]⏎`, brackets trained.

It has no BOS, no system message of its own and no way to offer tools; `qwen` is ChatML with them.
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, opened, require
from weft.data.tokens import Tokenizer

ROLES = ("system", "user", "assistant", "tool")


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    require("chatml", tokenizer, "<|im_start|>", "<|im_end|>")
    return MarkerTemplate(
        name="chatml",
        tokenizer=tokenizer,
        opening=opened(settings, "chatml", {role: f"<|im_start|>{role}\n" for role in ROLES}),
        closing=dict.fromkeys(ROLES, "<|im_end|>\n"),
        stop="<|im_end|>",
        after_answer="\n",
        system=settings.system,
    )
