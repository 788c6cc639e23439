"""YAML and JSON text to plain values, and the line on which each of them was written.

YAML is read as its version 1.2 has it: only true and false are booleans, 2e-4 is a number, 017 is seventeen, and a key
is always text (a task may be called `no` or `1`). Tags of Python are refused, and so are files that unfold to more than
a settings file can hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from weft.config.faults import Fault
from weft.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000

_TAG = "tag:yaml.org,2002:"
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
RESOLVERS: tuple[tuple[str, str, Sequence[str]], ...] = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789.")),
)
"""What a plain scalar is in YAML 1.2: the tag, its pattern, the characters that it may start with."""


_SCALARS: dict[str, Callable[[str], object]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": lambda text: int(text, 0 if text[:2] in ("0x", "0o") else 10),
    "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    "str": lambda text: text,
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  (the base class's own attribute: 1.1's rules are left out)


for _name, _pattern, _first in RESOLVERS:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))


@dataclass(slots=True)
class Document:
    """A text's value, the 1-based line of each dotted name, and the faults that do not hinder reading on."""

    value: object = None
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def read(path: Path) -> Document:
    """The document in a file; raises ConfigError where it can't be read at all."""
    where = str(path)
    try:
        if path.is_dir():
            raise ConfigError(f"{where}: is a folder, not a settings file; name a file in it")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(f"{where}: has {size} bytes; a settings file has at most {MAX_BYTES}. Is it a data file?")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{where}: there is no such file (looked for {path.absolute()})") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{where}:{line}: is not UTF-8 (byte {raw[error.start]:#04x}); save the file as UTF-8"
        ) from None
    return parse(text, where, is_json=path.suffix.lower() == ".json")


def parse(text: str, where: str, is_json: bool = False) -> Document:
    """The document in a text; `where` names it in errors. A text that is JSON is read as JSON, whatever its name."""
    if is_json or text.lstrip().startswith("{"):
        try:
            return _parse_json(text)
        except json.JSONDecodeError as error:
            if is_json:
                raise ConfigError(
                    f"{where}:{error.lineno}: is not valid JSON: {error.msg} (column {error.colno})"
                ) from None
        except (RecursionError, ValueError):
            raise ConfigError(
                f"{where}: is not a settings file: it holds too deep a nesting or too long a number"
            ) from None
    return _parse_yaml(text, where)


def _parse_yaml(text: str, where: str) -> Document:
    builder = _Builder()
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            builder.document.value = builder.build(node, "")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        context = f", {error.context}" if error.context else ""
        raise ConfigError(f"{where}:{line}: is not valid YAML: {error.problem}{context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{where}:{line}: holds a character that YAML does not allow ({error.character!r})") from None
    except RecursionError:
        raise ConfigError(f"{where}: is nested too deeply for a settings file") from None
    return builder.document


def _parse_json(text: str) -> Document:
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        repeated.extend(key for key in dict.fromkeys(keys) if keys.count(key) > 1)
        return dict(pairs)

    document = Document(json.loads(text, object_pairs_hook=unique))
    document.faults = [Fault(key, "is written twice; keep one of the two") for key in repeated]
    try:  # tabs stand only between JSON's tokens, and JSON without them is YAML: its marks give the lines
        document.lines = _parse_yaml(text.replace("\t", " "), "").lines
    except ConfigError:
        document.lines = {}
    return document


class _Builder:
    """Builds plain values from YAML's nodes and notes where each stands."""

    def __init__(self) -> None:
        self.document = Document()
        self.num_values = 0

    def build(self, node: yaml.Node, path: str) -> object:
        self.num_values += 1
        if self.num_values > MAX_VALUES:
            raise yaml.MarkedYAMLError(None, None, f"more than {MAX_VALUES} values", node.start_mark)
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, path) for item in node.value]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._refuse(node, path, f"the YAML tag {node.tag} is not allowed in settings")
        return None

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, object]:
        merged: dict[str, object] = {}
        own: dict[str, object] = {}
        for key_node, value_node in sorted(node.value, key=lambda pair: not _is_merge(pair[0])):
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key_node, path, "a list or a mapping can't be a setting's name")
                continue
            key = str(key_node.value)
            if _is_merge(key_node):
                merged = self._merge(value_node, path) | merged
                continue
            name = f"{path}.{key}" if path else key
            if key in own:
                first = self.document.lines[name]
                message = f"is written twice (first on line {first}); keep one of the two"
                self.document.faults.append(Fault(name, message, line))
                continue
            self.document.lines[name] = line
            own[key] = self.build(value_node, name)
        return merged | own

    def _merge(self, node: yaml.Node, path: str) -> dict[str, object]:
        value = self.build(node, path)
        parts = value if isinstance(value, list) else [value]
        merged: dict[str, object] = {}
        for part in parts:
            if not isinstance(part, dict):
                self._refuse(node, path, "'<<' merges mappings only")
                continue
            merged = part | merged
        return merged

    def _scalar(self, node: yaml.ScalarNode, path: str) -> object:
        text = str(node.value)
        read = _SCALARS.get(node.tag.removeprefix(_TAG))
        if read is None:
            self._refuse(node, path, f"the YAML tag {node.tag} is not allowed in settings")
            return None
        try:
            return read(text)
        except ValueError:
            self._refuse(node, path, f"{text[:40]!r} is not a number that can be read")
            return None

    def _refuse(self, node: yaml.Node, path: str, message: str) -> None:
        self.document.faults.append(Fault(path, message, node.start_mark.line + 1))


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.value == "<<" and key.style is None
