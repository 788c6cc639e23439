"""A mapping to Settings, or every fault of it in plain words.

Three passes see everything at once: what does not belong is named and left out, pydantic judges the rest, and where
that has faults the faulty sections fall back to their defaults once more, so that conflicts between the others are told
in the same error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from weft.config.faults import Fault, Origins, config_error
from weft.config.settings import Settings
from weft.config.words import (
    choices,
    describe,
    describe_type,
    did_you_mean,
    entry_of,
    is_optional,
    item_of,
    near,
    section_of,
    show,
)

OTHER_NAMES = {
    "learning_rate": "optimizer.lr",
    "lr_scheduler_type": "optimizer.schedule",
    "warmup_steps": "optimizer.warmup",
    "lora_rank": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "seq_length": "data.max_tokens",
    "max_length": "data.max_tokens",
    "max_seq_length": "data.max_tokens",
    "num_train_epochs": "mixture.epochs",
    "batch_size": "batch.samples_per_step",
    "output_dir": "output",
}
"""What other trainers call our settings."""

_EXAMPLES = {
    "model": "model: {base: ./models/base}",
    "model.base": "base: ./models/base",
    "tasks": "tasks: {sql: ./data/sql}",
    "output": "output: runs/first",
}
_PLACEHOLDERS: dict[str, object] = {"model": {"base": "?"}, "tasks": {"task": "?"}, "output": "?"}


def check(data: object, origins: Origins, faults: Sequence[Fault] = ()) -> Settings:
    """The settings that `data` describes; raises one ConfigError of `faults` and all that are found here."""
    if not isinstance(data, Mapping):
        what = "is empty" if data is None else f"holds {show(data)}"
        hint = "; settings are a mapping of sections such as 'model: {base: ./models/base}'"
        raise config_error([*faults, Fault("", what + hint)], origins)
    told = {fault.setting for fault in faults}
    known, strange = _known(data, Settings, "")
    found = [*faults, *(fault for fault in strange if fault.setting not in told)]
    told = {fault.setting for fault in found}
    try:
        settings = Settings.model_validate(known)
    except ValidationError as error:
        judged = [fault for fault in _judged(error, known) if fault.setting not in told]
        if all(entry["loc"] for entry in error.errors(include_url=False)):
            found += judged
            found += _conflicts(known, _broken(found))
        else:
            broken = _broken(found)
            found += [fault for fault in judged if not _touches(fault, broken)]
    if found:
        raise config_error(found, origins)
    return settings


def fields_of(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """A section's settings by the names that users write."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section by the name that users write; that of `tasks` is the section of one task."""
    for name, field in fields_of(Settings).items():
        section = section_of(field.annotation) or section_of(entry_of(field.annotation))
        if section:
            yield name, section


def _known(
    data: Mapping[object, object], section: type[BaseModel], prefix: str
) -> tuple[dict[str, object], list[Fault]]:
    """The part of `data` that has a place in `section`, and a fault for all that has none or can't be meant so."""
    fields = fields_of(section)
    kept: dict[str, object] = {}
    faults: list[Fault] = []
    for key, value in data.items():
        name = f"{prefix}{key}" if isinstance(key, str) else f"{prefix}{show(key)}"
        if not isinstance(key, str) or key not in fields:
            faults.append(Fault(name, _no_such_setting(str(name[len(prefix) :]), prefix.rstrip("."), fields)))
            continue
        fault, kept_value = _value(value, fields[key], name, faults)
        if fault:
            faults.append(Fault(name, fault))
        else:
            kept[key] = kept_value
    return kept, faults


def _value(value: object, field: FieldInfo, name: str, faults: list[Fault]) -> tuple[str | None, object]:
    """What is wrong with the value at sight, if anything, and the value with what lies beneath it looked through."""
    one, each = section_of(field.annotation), entry_of(field.annotation)
    section_of_each = section_of(each)
    if isinstance(value, Mapping) and one:
        value, beneath = _known(value, one, name + ".")
        faults += beneath
    elif isinstance(value, Mapping) and section_of_each:
        entries: dict[object, object] = {}
        for key, entry in value.items():
            entries[key] = entry
            if isinstance(entry, Mapping):
                entries[key], beneath = _known(entry, section_of_each, f"{name}.{key}.")
                faults += beneath
            elif isinstance(entry, PurePath):
                entries[key] = str(entry)
            elif isinstance(entry, str) and not entry.strip():
                faults.append(Fault(f"{name}.{key}", "is blank; give it a path"))
        return None, entries
    elif isinstance(value, list) and (section := section_of(item_of(field.annotation))):
        return None, _items(value, section, name, faults)
    elif isinstance(value, PurePath):
        value = str(value)
    if value is None and not is_optional(field.annotation):
        return f"is empty; give it {describe(field)}, or leave the line out", None
    kind = describe_type(field.annotation)
    if isinstance(value, bool) and "number" in kind:
        return f"{show(value)} is not {describe(field)}", None
    if isinstance(value, str) and not value.strip() and (kind == "a path" or name.endswith(("model.base", ".path"))):
        return "is blank; give it a path", None
    return None, value


def _items(values: list[object], section: type[BaseModel], name: str, faults: list[Fault]) -> list[object]:
    """A list of sections, each looked through."""
    items: list[object] = []
    for number, value in enumerate(values):
        kept, beneath = _known(value, section, f"{name}.{number}.") if isinstance(value, Mapping) else (value, [])
        faults += beneath
        items.append(kept)
    return items


def _no_such_setting(key: str, section: str, fields: Mapping[str, FieldInfo]) -> str:
    """`there is no such setting`, and where the one that was meant is likely to be."""
    elsewhere = [f"{name}.{key}" for name, other in sections() if name != "tasks" and key in fields_of(other)]
    elsewhere += [key] if section and key in fields_of(Settings) else []
    elsewhere += [OTHER_NAMES[key]] if key in OTHER_NAMES else []
    message = "there is no such setting"
    if elsewhere:
        return f"{message}; there is {' and '.join(elsewhere)}"
    if near(key, fields):
        return message + did_you_mean(key, fields)
    everywhere = [f"{name}.{setting}" for name, other in sections() if name != "tasks" for setting in fields_of(other)]
    far = near(key, [name.partition(".")[2] for name in everywhere])
    if far and len(key) > 3:
        return f"{message}; there is {next(name for name in everywhere if name.endswith('.' + far))}"
    owner = f"{section} has" if section else "the settings are"
    return f"{message}; {owner} {', '.join(fields)}"


def _judged(error: ValidationError, data: Mapping[str, object]) -> list[Fault]:
    """Pydantic's errors as faults, one for each setting."""
    faults: dict[str, Fault] = {}
    for entry in error.errors(include_url=False):
        if not entry["loc"]:
            lines = str(entry.get("ctx", {}).get("error", entry["msg"])).splitlines()
            for line in lines:
                setting, _, message = line.partition(": ")
                faults[line] = Fault(setting, message)
            continue
        fault = _fault(entry["type"], entry["loc"], data)
        faults.setdefault(fault.setting, fault)
    return list(faults.values())


def _fault(kind: str, loc: tuple[int | str, ...], data: Mapping[str, object]) -> Fault:
    """One of pydantic's errors in words, put on the setting that it is about."""
    field = fields_of(Settings)[str(loc[0])]
    path = [str(loc[0])]
    rest = [str(part) for part in loc[1:]]
    section, entry = section_of(field.annotation), _beneath(field.annotation)
    accepted, options = describe(field), choices(field.annotation)
    while rest and (section or entry is not None):
        name = rest.pop(0)
        path.append(name)
        if section:
            if name not in fields_of(section):
                break
            field = fields_of(section)[name]
            accepted, options = describe(field), choices(field.annotation)
            section, entry = section_of(field.annotation), _beneath(field.annotation)
        else:
            accepted, options = describe_type(entry), choices(entry)
            section, entry = section_of(entry), None
    setting = ".".join(path)
    value = _at(data, path)
    if kind == "missing" and value is None:
        example = _EXAMPLES.get(setting)
        return Fault(setting, f"is required, {accepted}" + (f"; write '{example}'" if example else ""))
    if rest[:1] == ["[key]"]:
        return Fault(setting, f"{show(path[-1])} is not a name that {'.'.join(path[:-1])} knows")
    if setting == "tasks" and kind == "too_short":
        return Fault(setting, f"there is no task; write '{_EXAMPLES['tasks']}'")
    if value is None:
        return Fault(setting, f"is empty; give it {accepted}, or leave the line out")
    if section:
        shape = "a path or a section" if path[0] == "tasks" else "a section"
        return Fault(
            setting, f"{show(value)} is not {shape} with its settings beneath it ({', '.join(fields_of(section))})"
        )
    suggestion = did_you_mean(value, options) if isinstance(value, str) and options else ""
    if isinstance(value, str) and accepted.startswith("a list"):
        suggestion = f"; write [{value}]"
    return Fault(setting, f"{show(value)} is not {accepted}{suggestion}")


def _beneath(annotation: object) -> object | None:
    """The annotation of what stands in a mapping, or of the sections in a list."""
    item = item_of(annotation)
    return item if section_of(item) else entry_of(annotation)


def _at(data: object, path: Sequence[str]) -> object:
    for name in path:
        if isinstance(data, list) and name.isdecimal() and int(name) < len(data):
            data = data[int(name)]
        elif isinstance(data, Mapping):
            data = data.get(name)
        else:
            return None
    return data


def _broken(faults: Sequence[Fault]) -> set[str]:
    """The sections in which something is wrong, with those that can't be judged without them."""
    broken = {fault.setting.partition(".")[0] for fault in faults if fault.setting}
    return broken | {"tasks", "mixture"} if broken & {"tasks", "mixture"} else broken


def _conflicts(data: Mapping[str, object], broken: set[str]) -> list[Fault]:
    """The conflicts between the sections that are whole, with the broken ones at their defaults."""
    rest = {name: value for name, value in data.items() if name not in broken}
    try:
        Settings.model_validate(_PLACEHOLDERS | rest)
    except ValidationError as error:
        if any(entry["loc"] for entry in error.errors(include_url=False)):
            return []
        return [fault for fault in _judged(error, rest) if not _touches(fault, broken)]
    return []


def _touches(fault: Fault, broken: set[str]) -> bool:
    text = f"{fault.setting}. {fault.message}"
    return any(f"{section}." in text for section in broken)
