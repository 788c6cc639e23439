"""What Mistral's three templates have in common: `BOS[INST] system⏎⏎question[/INST][ answerEOS]`, brackets trained.

They differ in their spaces, and in whether `[INST]` is a token. The published ones move the system message and the tools to the last
user turn, so that no conversation holds the prompts of its own earlier answers; here they stand in the first.
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, fixed_markers, require
from weft.data.templates._tools import ToolMarkers
from weft.data.tokens import Tokenizer

_NEEDS = (
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
)


def mistral(
    name: str, settings: TemplateSettings, tokenizer: Tokenizer, before: str, after: str, has_tokens: bool
) -> MarkerTemplate:
    """`before` and `after`: the space outside and inside the brackets."""
    if has_tokens:
        require(name, tokenizer, "[INST]", "[/INST]")
    fixed_markers(settings, name)
    tools = ToolMarkers(
        place="first",
        offer=(f"[AVAILABLE_TOOLS]{after}[", ", ", "][/AVAILABLE_TOOLS]"),
        calls=(f"[TOOL_CALLS]{after}[", ", ", "]"),
        writes_ids=True,
        result_id=(', "call_id": "', '"'),
        needs=_NEEDS,
    )
    opening = {"system": f"{before}[INST]{after}", "user": f"{before}[INST]{after}", "assistant": ""}
    closing = {"user": f"{before}[/INST]"}
    follows: dict[str, tuple[str, ...]] = {
        "": ("system", "user"),
        "system": ("user",),
        "user": ("assistant",),
        "assistant": ("user",),
    }
    if has_tokens:
        opening["tool"] = f'[TOOL_RESULTS]{after}{{"content": '
        closing["tool"] = "}[/TOOL_RESULTS]"
        follows |= {"assistant": ("user", "tool"), "tool": ("tool", "assistant")}
    return MarkerTemplate(
        name=name,
        tokenizer=tokenizer,
        first=tokenizer.token("bos_token") or "",
        opening=opening,
        closing=closing,
        joints={("system", "user"): "\n\n"},
        follows=follows,
        answer_start=after,
        stop=tokenizer.eos_token,
        tools=tools if has_tokens else None,
        system=settings.system,
    )
