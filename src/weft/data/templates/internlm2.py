"""InternLM2: ChatML behind BOS, with tools in a system turn of their own and their results in the environment's.

An answer is `[words<|action_start|><|plugin|>⏎{"name": …, "parameters": …}<|action_end|><|im_end|>]⏎`, brackets trained.
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, opened, require
from weft.data.templates._tools import ToolMarkers
from weft.data.tokens import Tokenizer

ROLES = ("system", "user", "assistant")
_CALL = "<|action_start|><|plugin|>\n"
TOOLS = ToolMarkers(
    place="after_system",
    offer=("<|im_start|>system name=<|plugin|>\n[", ", ", "]<|im_end|>\n"),
    calls=(_CALL, "<|action_end|>" + _CALL, "<|action_end|>"),
    arguments="parameters",
    beside="",
    offers="function",
    needs=("<|plugin|>", "<|action_start|>", "<|action_end|>"),
)


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    require("internlm2", tokenizer, "<|im_start|>", "<|im_end|>")
    markers = {role: f"<|im_start|>{role}\n" for role in ROLES}
    markers["tool"] = "<|im_start|>environment name=<|plugin|>\n"
    return MarkerTemplate(
        name="internlm2",
        tokenizer=tokenizer,
        first=tokenizer.token("bos_token") or "",
        opening=opened(settings, "internlm2", markers),
        closing=dict.fromkeys(markers, "<|im_end|>\n"),
        tools=TOOLS,
        stop="<|im_end|>",
        after_answer="\n",
        system=settings.system,
    )
