"""ChatGLM3: `[gMASK]sop<|user|>⏎ question<|assistant|>[⏎ answer<|user|>]⏎ question …`, brackets trained.

The family ends an answer with the token of the next role: the model itself writes `<|user|>` when it is done, as its own fine-tuning
trains it. So `<|user|>` is the stop token here, of the last answer too; the next user turn goes on right behind it. Only a user's
turn can therefore follow an answer.
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, fixed_markers, require
from weft.data.tokens import Tokenizer


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    require("chatglm3", tokenizer, "[gMASK]", "sop", "<|system|>", "<|user|>", "<|assistant|>")
    fixed_markers(settings, "chatglm3")
    return MarkerTemplate(
        name="chatglm3",
        tokenizer=tokenizer,
        first="[gMASK]sop",
        opening={"system": "<|system|>\n ", "user": "<|user|>\n ", "assistant": "<|assistant|>"},
        closing={"system": "", "user": ""},
        joints={("assistant", "user"): "\n "},
        follows={"assistant": ("user",)},
        answer_start="\n ",
        stop="<|user|>",
        system=settings.system,
    )
