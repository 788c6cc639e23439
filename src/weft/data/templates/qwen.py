"""Qwen: ChatML with a system message of its own (Qwen2.5's), tools, and reasoning (as Qwen3 writes it).

An answer is `[<think>⏎reasoning⏎</think>⏎⏎ words ⏎<tool_call>⏎{…}⏎</tool_call><|im_end|>]⏎`, brackets trained. Reasoning is kept in
every turn, so a conversation holds the prompts of all its answers. What tools give back stands in a user's turn.
"""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate, opened, require
from weft.data.templates._tools import ToolMarkers
from weft.data.tokens import Tokenizer

ROLES = ("system", "user", "assistant")
SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
TOOLS = ToolMarkers(
    place="in_system",
    offer=(
        "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures "
        "within <tools></tools> XML tags:\n<tools>\n",
        "\n",
        "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML "
        'tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>',
    ),
    calls=("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>"),
    beside="\n",
)


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    require("qwen", tokenizer, "<|im_start|>", "<|im_end|>")
    markers = {role: f"<|im_start|>{role}\n" for role in ROLES} | {"tool": "<|im_start|>user\n<tool_response>\n"}
    return MarkerTemplate(
        name="qwen",
        tokenizer=tokenizer,
        default_system=SYSTEM,
        opening=opened(settings, "qwen", markers),
        closing=dict.fromkeys(ROLES, "<|im_end|>\n") | {"tool": "\n</tool_response><|im_end|>\n"},
        joints={("tool", "tool"): "\n</tool_response>\n<tool_response>\n"},
        reasoning=("<think>\n", "\n</think>\n\n"),
        tools=TOOLS,
        stop="<|im_end|>",
        after_answer="\n",
        system=settings.system,
    )
