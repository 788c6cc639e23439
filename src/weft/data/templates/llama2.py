"""Llama-2: `BOS[INST] <<SYS>>⏎system⏎<</SYS>>⏎⏎question [/INST][ answer EOS]BOS[INST] …`, brackets trained.

Contents are written as they are. The space before an answer is the model's to write.
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, fixed_markers
from weft.data.tokens import Tokenizer


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    fixed_markers(settings, "llama2")
    turn = (tokenizer.token("bos_token") or "") + "[INST] "
    return MarkerTemplate(
        name="llama2",
        tokenizer=tokenizer,
        opening={"system": turn + "<<SYS>>\n", "user": turn, "assistant": ""},
        closing={"user": " [/INST]"},
        joints={("system", "user"): "\n<</SYS>>\n\n"},
        follows={"": ("system", "user"), "system": ("user",), "user": ("assistant",), "assistant": ("user",)},
        answer_start=" ",
        answer_end=" ",
        stop=tokenizer.eos_token,
        system=settings.system,
    )
