"""Fills in what depends on the model's folder, and looks whether all folders are there. Needs no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from weft.config.check import check
from weft.config.faults import Fault, Origins, config_error
from weft.config.settings import HUB, Settings, TaskSettings
from weft.config.words import near, show

DEFAULT_MAX_TOKENS = 4096
_LIMITS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")


def resolve(settings: Settings) -> Settings:
    """The same settings with no default left open: the longest sample, the batch, the cache, and paths without `~`.

    Raises ConfigError with every folder that is missing and with a longest sample above what the model allows. The
    names of models on the hub are left alone.
    """
    base = _expand(settings.model.base)
    tasks = {name: _expanded(task) for name, task in settings.tasks.items()}
    faults = list(_model_faults(base))
    limit = None
    if not faults:
        limit, limit_faults = _limit(Path(base))
        faults += limit_faults
    for name, task in tasks.items():
        for setting, path in [*(("path", path) for path in task.paths), ("schemas", task.schemas)]:
            if path is not None and not path.startswith(HUB) and not os.path.exists(path):
                faults.append(Fault(f"tasks.{name}.{setting}", _missing(path)))
    contamination = [_expand(path) for path in settings.data.contamination]
    faults += [Fault("data.contamination", _missing(path)) for path in contamination if not os.path.exists(path)]
    asked = settings.data.max_tokens
    if limit and asked and asked > limit:
        message = f"{asked} is more than the {limit} tokens that the model {base} can read; set at most {limit}"
        faults.append(Fault("data.max_tokens", message))
    if faults:
        raise config_error(faults, Origins())
    filled = settings.model_copy(
        update={
            "model": settings.model.model_copy(update={"base": base}),
            "tasks": tasks,
            "output": Path(_expand(str(settings.output))),
            "data": settings.data.model_copy(
                update={
                    "max_tokens": asked or min(DEFAULT_MAX_TOKENS, limit or DEFAULT_MAX_TOKENS),
                    "contamination": contamination,
                }
            ),
        }
    )
    cache = Path(_expand(str(filled.cache)))
    batch = {"tokens_per_micro_batch": filled.tokens_per_micro_batch}
    if not filled.batch.samples_per_step:
        batch["tokens_per_step"] = filled.tokens_per_step
    filled = filled.model_copy(
        update={
            "data": filled.data.model_copy(update={"cache": cache}),
            "batch": filled.batch.model_copy(update=batch),
        }
    )
    return check(filled.model_dump(by_alias=True), Origins())


def _expanded(task: TaskSettings) -> TaskSettings:
    paths = [path if path.startswith(HUB) else _expand(path) for path in task.paths]
    schemas = None if task.schemas is None else _expand(task.schemas)
    return task.model_copy(update={"path": paths[0] if isinstance(task.path, str) else paths, "schemas": schemas})


def _expand(path: str) -> str:
    return os.path.expanduser(path) if path.startswith("~") else path


def _model_faults(base: str) -> Iterator[Fault]:
    """What is wrong with the base model's folder; nothing where `base` is a name on the hub."""
    if not os.path.lexists(base):
        if _looks_like_path(base):
            yield Fault("model.base", _missing(base))
    elif not os.path.isdir(base):
        yield Fault("model.base", f"{base} is a file; name the folder that holds the model's config.json")
    elif not os.path.isfile(os.path.join(base, "config.json")):
        hint = (
            "; merge the adapter first: weft merge RUN OUT"
            if os.path.isfile(os.path.join(base, "adapter_config.json"))
            else ""
        )
        yield Fault(
            "model.base", f"the folder {os.path.abspath(base)} holds no config.json, so it is not a model{hint}"
        )


def _looks_like_path(base: str) -> bool:
    parts = (".", "..", "~")
    return base.startswith((os.sep, *(part + os.sep for part in parts))) or base in parts or base.count(os.sep) > 1


def _missing(path: str) -> str:
    """That there is no such path, with the whole path that was tried and the closest name beside it."""
    absolute = Path(path).absolute()
    parent = absolute.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    message = f"there is no {path} (looked for {absolute})"
    if parent != absolute.parent:
        return f"{message}; the path exists as far as {parent}"
    try:
        found = near(absolute.name, os.listdir(parent))
    except OSError:
        found = None
    return message + (f"; did you mean '{os.path.join(os.path.dirname(path), found)}'?" if found else "")


def _limit(base: Path) -> tuple[int | None, list[Fault]]:
    """The longest sequence that the model's config.json allows; None where it says nothing or is not here."""
    file = base / "config.json"
    if not file.is_file():
        return None, []
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return None, [Fault("model.base", f"{file} can't be read: {error}")]
    if not isinstance(config, Mapping):
        return None, [Fault("model.base", f"{file} holds no JSON object but {show(config)}")]
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, Mapping) else {}):
        for key in _LIMITS:
            value = part.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 1:
                return value, []
    return None, []
