"""What a trained or merged folder says of itself: `weft.json`, the tokenizer's files and the template beside the weights.

With it, whoever opens the folder shows the model the prompts that it was trained on. Needs no torch.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from weft.config.settings import Settings, TemplateSettings
from weft.data.templates import Template, own_template
from weft.data.tokens import TOKENIZER_FILES, Tokenizer
from weft.errors import ModelError
from weft.types import JsonObject
from weft.version import __version__

ABOUT = "weft.json"
"""What weft must know of a trained or merged model to show it the prompts that it was trained on."""


@dataclass(frozen=True)
class About:
    """The part of `weft.json` that is read again."""

    base: str
    template: TemplateSettings


def about(settings: Settings, template: Template) -> JsonObject:
    """What a run writes into `weft.json`."""
    return {
        "weft": __version__,
        "base": settings.model.base,
        "adapter": settings.adapter.kind,
        "template": portable(settings.template, template).model_dump(mode="json"),
        "tasks": list(settings.tasks),
        "max_tokens": settings.max_tokens,
    }


def portable(settings: TemplateSettings, template: Template) -> TemplateSettings:
    """Template settings that mean the same in the folder itself: no `auto`, and no path of a file elsewhere.

    A Jinja file's text lies in the folder as `chat_template.jinja`, which is the folder's own template.
    """
    name = template.name if settings.name == "auto" else settings.name
    is_file = name.endswith((".jinja", ".jinja2", ".j2"))
    return settings.model_copy(update={"name": "tokenizer" if is_file else name})


def read_about(folder: Path) -> About | None:
    """What `weft.json` says; None where there is none. Raises ModelError where it can't be read."""
    file = folder / ABOUT
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text("utf-8"))
        return About(str(record["base"]), TemplateSettings.model_validate(record["template"]))
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise ModelError(
            f"{file}: not what weft writes there ({error}); take it from the run again, or delete it"
        ) from error


def write_tokenizer(tokenizer: Tokenizer, template: Template, folder: Path) -> None:
    """The tokenizer's files as they are, and the template as a chat template where the tokenizer's own is another."""
    for name in TOKENIZER_FILES:
        if (tokenizer.folder / name).is_file():
            shutil.copyfile(tokenizer.folder / name, folder / name)
    if own_template(tokenizer) != template.jinja():
        (folder / "chat_template.jinja").write_text(template.jinja(), "utf-8")
