"""What a token store is named by: the SHA-256 of everything that decides its samples.

The bytes of the source's files, how they are read, the template, the tokenizer, the length limit, and the code of the format and
the template themselves, so that a plug-in that was edited, or a newer weft, never finds a stale store.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import time
from collections.abc import Sequence
from datetime import date
from functools import cache
from pathlib import Path

import tokenizers

from weft.config.settings import Settings, TaskSettings
from weft.data import templates
from weft.data.sources import SourceFile
from weft.data.tokens import Tokenizer
from weft.files import sha256
from weft.types import JsonObject

STORE_VERSION = 4
_RESTING_NANOSECONDS = 1_000_000_000
"""How long a file must have been left alone before its digest is remembered: times of files tick slowly."""

_ROOMS = ("sources", "formats", "templates", "parse", "read", "tokens", "stretches", "encoders", "work", "parts")
_MAKERS = tuple(f"weft.data.{room}" for room in _ROOMS)
"""The code that makes samples."""

_NOT_OF_THE_SAMPLES = {"path", "weight", "epochs", "freeze_after"}


def store_key(settings: Settings, task: TaskSettings, digests: dict[str, str], tokenizer: Tokenizer) -> str:
    """The key of a task's store: 20 hexadecimal digits. Loads neither the tokenizer nor the template."""
    made_of: JsonObject = {
        "version": [STORE_VERSION, tokenizers.__version__],
        "files": {**digests},
        "read": task.model_dump(mode="json", exclude=_NOT_OF_THE_SAMPLES),
        "template": template_parts(settings, tokenizer),
        "tokenizer": tokenizer.fingerprint,
        "length": [settings.max_tokens, settings.data.too_long, settings.data.packing == "concat"],
        "code": [*_own_code(), *map(_code, _plug_ins(settings, task))],
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:20]


def template_parts(settings: Settings, tokenizer: Tokenizer) -> JsonObject:
    """What decides a template's text: its settings, its source, and the day where it asks for the time."""
    name = settings.template.name
    is_file = name.endswith((".jinja", ".jinja2", ".j2"))
    source = templates.read_jinja(name) if is_file else templates.own_template(tokenizer) or ""
    return {
        "settings": settings.template.model_dump(mode="json"),
        "source": source,
        "day": date.today().isoformat() if "strftime_now" in source else "",
    }


def _plug_ins(settings: Settings, task: TaskSettings) -> list[str]:
    return [name.partition(":")[0] for name in (task.format, settings.template.name) if ":" in name]


@cache
def _own_code() -> tuple[str, ...]:
    """Of weft's own modules: read once, for a run of many tasks would read them for each."""
    return tuple(map(_code, _MAKERS))


def _code(module: str) -> str:
    """SHA-256 of a module's source, or of all of a package's; '' where there is none to read."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return ""
    origin = Path(found.origin)
    files = sorted(origin.parent.glob("*.py")) if found.submodule_search_locations else [origin]
    return hashlib.sha256("".join(sha256(file) for file in files).encode()).hexdigest()


def source_digests(files: Sequence[SourceFile], cache: Path | None) -> dict[str, str]:
    """A digest of every file of a source, by name."""
    found = {}
    for file in files:
        parts = [file.fingerprint] if file.fingerprint else [digest(path, cache) for path in file.paths]
        found[file.name] = parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()
    return found


def stamps(files: Sequence[SourceFile]) -> dict[str, tuple[int, ...]]:
    """Size and times of every file; while they stay, and are old enough, the bytes are the same."""
    return {str(path): _stamp(path) for file in files for path in file.paths}


def _stamp(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _rests(stamp: tuple[int, ...]) -> bool:
    return time.time_ns() - max(stamp[1:3]) > _RESTING_NANOSECONDS


def changed(files: Sequence[SourceFile], digests: dict[str, str], before: dict[str, tuple[int, ...]]) -> list[str]:
    """The files whose bytes are no longer those of the digests."""
    suspects = []
    for file in files:
        try:
            now = {str(path): _stamp(path) for path in file.paths}
        except OSError:
            suspects.append(file)
            continue
        if any(before[path] != stamp or not _rests(stamp) for path, stamp in now.items()):
            suspects.append(file)
    try:
        found = source_digests(suspects, None)
    except OSError:
        return [file.name for file in suspects]
    return [name for name, value in found.items() if value != digests[name]]


def digest(path: Path, cache: Path | None = None) -> str:
    """SHA-256 of a file's bytes; with a cache folder, remembered by path, size and the times that no program can set back."""
    stamp = _stamp(path)
    seen = [str(path.absolute()), *stamp]
    note = None if cache is None else cache / "digests" / hashlib.sha256(json.dumps(seen).encode()).hexdigest()
    if note is not None and note.is_file():
        return note.read_text("ascii")
    found = sha256(path)
    if note is not None and _rests(stamp):
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary = note.with_name(f"{note.name}.{os.getpid()}")
        temporary.write_text(found, "ascii")
        temporary.replace(note)
    return found
