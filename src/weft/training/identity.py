"""What makes a run this run: a resumed run must be the same in all of it, or it is refused with the difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from weft.balance.balancers import replay
from weft.config.settings import Settings
from weft.data.keys import digest
from weft.data.plan import PLAN_VERSION
from weft.data.prepare import Prepared
from weft.errors import CheckpointError
from weft.files import sha256, write_json
from weft.models.load import compute_dtype, pick_device
from weft.types import JsonObject

FILE = "run.json"

_FREE = {
    "output",
    "save.every",
    "save.keep",
    "track",
    "engine",
    "model.dtype",  # what it comes to on this device is compared instead
    "model.gradient_checkpointing",
    "batch.tokens_per_micro_batch",
    "data.cache",
    "data.max_bad_rows",
    "data.processes",
    "data.engine",
    "data.tokenizer",
    "data.contamination",
}
"""Settings that never change what is learned, so they may change on a resume."""


def describe(settings: Settings, prepared: Prepared) -> JsonObject:
    """The identity of a run: settings that matter, and fingerprints of what they point to."""
    base = Path(settings.model.base)
    weights = {
        file.name: digest(file, settings.cache) for file in sorted(base.glob("*.safetensors")) + sorted(base.glob("config.json"))
    } if base.is_dir() else {}  # fmt: skip
    data: JsonObject = {store.task: store.folder.name.rpartition("-")[2] for store in prepared.stores}
    return {
        "format": 1,
        "settings": {
            key: value for key, value in _flat(settings.model_dump(mode="json")).items() if not _is_free(key, settings)
        },
        "dtype": str(compute_dtype(settings.model, pick_device(settings.engine.device))),
        "order": [*settings.tasks],
        "plan": PLAN_VERSION,
        "data": data,
        "template": prepared.template.fingerprint,
        "tokenizer": prepared.tokenizer.fingerprint,
        "base": {**weights},
        "record": _record(settings),
    }


def _record(settings: Settings) -> str | None:
    """The fingerprint of the record that a run replays."""
    balance = settings.balance
    return sha256(replay.file_of(str(balance.options["record"]))) if balance.method == "replay" else None


def check(folder: Path, identity: JsonObject, done: bool = False) -> None:
    """Write the identity into a new run's folder, or compare it with the one there. Raises CheckpointError with the differences.

    A setting that the run's weft did not have yet counts as its default. `done`: no step is left, so how steps are planned is no matter.
    """
    file = folder / FILE
    if not file.is_file():
        temporary = folder / f"{FILE}.part"
        write_json(temporary, identity)
        temporary.replace(file)
        return
    try:
        before = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{file}: not readable as JSON ({error}); this folder can't be resumed, choose another output"
        ) from error
    old, new = _flat(before), _flat(json.loads(json.dumps(identity)))
    old = {f"settings.{name}": value for name, value in _defaults(new).items()} | old
    if done:
        old["plan"] = new["plan"]
    if any(
        old.get(key) != new.get(key) for key in ("template", "tokenizer")
    ):  # then every store has another name: not news
        old, new = ({k: v for k, v in side.items() if not k.startswith("data.")} for side in (old, new))
    differences = [
        f"  {_name(key)}: was {_short(old.get(key))}, is {_short(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differences:
        raise CheckpointError(
            f"{folder} holds a run that was made otherwise; resuming it would mix two runs. Changed since:\n"
            + "\n".join(differences)
            + "\nUndo the change, or set output to another folder."
        )


def _defaults(new: dict[str, Any]) -> dict[str, Any]:
    """The default of every setting that has one, by its flat name, of the tasks that there are."""
    tasks = new["order"]
    plain = Settings.model_validate({"model": {"base": "-"}, "tasks": dict.fromkeys(tasks, "-"), "output": "-"})
    flat = _flat(plain.model_dump(mode="json"))
    return {k: v for k, v in flat.items() if f"settings.{k}" in new and k != "model.base" and not k.endswith(".path")}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or (prefix and not value):
        return {prefix: value}
    return {
        k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _is_free(key: str, settings: Settings) -> bool:
    if key == "batch.tokens_per_micro_batch" and settings.adapter.dropout > 0:
        return False  # dropout is drawn for each micro-batch
    return any(key == free or key.startswith(free + ".") for free in _FREE)


def _name(key: str) -> str:
    room, _, rest = key.partition(".")
    words = {
        "record": "the record that is replayed",
        "plan": "how steps are planned (weft's own version of it)",
        "data": f"data of task {rest}",
        "base": f"base model file {rest}",
        "order": "order of the tasks",
    }
    return rest if room == "settings" else words.get(room, room)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:20] + "…"
