"""From a file and overrides to Settings, and back to YAML.

A YAML file, a mapping, or an MFTCoder training JSON becomes the same `Settings`; overrides `a.b=c` go on top. Every
fault is found in one pass and told in one ConfigError, a line each: `run.yaml:7: optimizer.lr: what is wrong, remedy`.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from weft.config import document, mftcoder
from weft.config.check import check, fields_of
from weft.config.faults import NO_LINE, Fault, Origins
from weft.config.settings import Settings, TaskSettings
from weft.errors import ConfigError

_SHORT_FORMS = {"template": "name"}


def load(path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """The settings of a file, with overrides such as `optimizer.lr=1e-4` on top.

    An MFTCoder training JSON (any file with its `data_paths` or `pretrained_model_path`) is translated;
    `engine.processes=N` among the overrides, or the launcher's WORLD_SIZE, multiplies its batch size as MFTCoder does.

    Raises ConfigError with every fault of the file and of the overrides.
    """
    read = document.read(Path(path))
    changes, faults = _parse(overrides)
    origins = Origins(str(path), read.lines)
    data, faults = read.value, [*read.faults, *faults]
    if isinstance(data, dict) and mftcoder.is_mftcoder(data):
        translation = mftcoder.translate(data, _num_processes(changes))
        data, origins.names = translation.settings, translation.names
        faults += translation.faults
    if isinstance(data, dict):
        data = copy.deepcopy(data)
        faults += [fault for change in changes if (fault := _apply(data, change, origins))]
    return check(data, origins, faults)


def from_mapping(mapping: Mapping[str, object]) -> Settings:
    """The settings that a mapping describes, in the same shape as a file; raises ConfigError with every fault."""
    return check(mapping, Origins())


def to_yaml(settings: Settings) -> str:
    """The settings as YAML, in the order of the reference; `load` gives the same settings back."""
    plain = settings.model_dump(mode="json", by_alias=True)
    return str(yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6))


class _Override(NamedTuple):
    """One `a.b=c`."""

    text: str
    name: str
    value: object


def _parse(overrides: Sequence[str]) -> tuple[list[_Override], list[Fault]]:
    changes, faults = [], []
    for text in overrides:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not re.fullmatch(r"[^.\s]+(\.[^.\s]+)*", name):
            faults.append(
                Fault("", f"override '{text}': is not of the form section.setting=value, such as seed=3", NO_LINE)
            )
            continue
        try:
            read = document.parse(value, f"override '{text}'")
        except ConfigError as error:
            faults.append(Fault("", f"{error}; put the value in quotes", NO_LINE))
            continue
        faults += [Fault("", f"override '{text}': {fault.message}", NO_LINE) for fault in read.faults]
        changes.append(_Override(text, name, read.value))
    return changes, faults


def _apply(data: dict[str, object], change: _Override, origins: Origins) -> Fault | None:
    """Put one override into the data; the fault where there is no place for it."""
    text, name, value = change
    path = _path(name, data)
    node = data
    for depth, part in enumerate(path[:-1]):
        below = node.get(part)
        if isinstance(below, str) and path[0] == "tasks" and depth == 1:
            below = {"path": below}
        elif isinstance(below, str) and depth == 0 and part in _SHORT_FORMS:
            below = {_SHORT_FORMS[part]: below}
        elif below is None:
            below = {}
        if not isinstance(below, dict):
            origins.override(name, text)
            return Fault(name, f"{'.'.join(path[: depth + 1])} is a setting, not a section: nothing lies beneath it")
        node[part] = below
        node = below
    node[path[-1]] = value
    origins.override(name, text)
    return None


def _path(name: str, data: Mapping[str, object]) -> list[str]:
    """The dotted name in parts; a task's name may itself hold dots."""
    first, _, rest = name.partition(".")
    if first == "tasks" and rest:
        tasks = data.get("tasks")
        known = (
            [task for task in tasks if rest == task or rest.startswith(f"{task}.")] if isinstance(tasks, dict) else []
        )
        if known:
            task = max(known, key=len)
            return [first, task, *(part for part in rest[len(task) + 1 :].split(".") if part)]
        task, dot, setting = rest.rpartition(".")
        return [first, task, setting] if dot and setting in fields_of(TaskSettings) else [first, rest]
    second, _, third = rest.partition(".")
    if (first, second) in (("mixture", "weights"), ("template", "markers")) and third:
        return [first, second, third]
    return name.split(".")


def _num_processes(changes: Sequence[_Override]) -> int:
    """How many processes will train together: as the overrides say, else as the launcher says."""
    found: object = None
    for _, name, value in changes:
        if name == "engine.processes":
            found = value
        elif name == "engine" and isinstance(value, dict):
            found = value.get("processes")
    if isinstance(found, int) and found > 1:
        return found
    world = os.environ.get("WORLD_SIZE", "")
    return int(world) if "RANK" in os.environ and world.isdecimal() and int(world) > 0 else 1


class _Dumper(yaml.SafeDumper):
    """Writes what YAML 1.1 and 1.2 both read as the same."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
for _name, _pattern, _first in document.RESOLVERS:
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), list(_first))
