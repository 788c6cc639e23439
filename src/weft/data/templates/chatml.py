"""ChatML: `<|im_start|>user⏎question<|im_end|>⏎<|im_start|>assistant⏎[answer<|im_end|>]⏎`, brackets trained."""

from __future__ import annotations

from weft.config.settings import TemplateSettings
from weft.data.templates._markers import MarkerTemplate
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError

ROLES = ("system", "user", "assistant", "tool")


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> MarkerTemplate:
    missing = [token for token in ("<|im_start|>", "<|im_end|>") if tokenizer.id_of(token) is None]
    if missing:
        raise TemplateError(
            f"template.name: chatml: the tokenizer in {tokenizer.folder} has no token {' or '.join(missing)}; use mftcoder, or a "
            "tokenizer with ChatML's tokens"
        )
    opening: dict[str, str] = {role: f"<|im_start|>{role}\n" for role in ROLES}
    return MarkerTemplate(
        name="chatml",
        tokenizer=tokenizer,
        opening=opening | {str(role): text for role, text in settings.markers.items()},
        closing=dict.fromkeys(ROLES, "<|im_end|>\n"),
        answer_end="",
        stop="<|im_end|>",
        after_answer="\n",
        system=settings.system,
    )
