"""Faults of settings, and where they stand: every one of a file on its own line of one error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from weft.errors import ConfigError

NO_LINE = 0
_AFTER_THE_FILE = 10**9


class Fault(NamedTuple):
    """What is wrong with one setting (its dotted name; empty for the whole).

    `line` where the place is known exactly; NO_LINE where the message itself says it.
    """

    setting: str
    message: str
    line: int | None = None


@dataclass(slots=True)
class Origins:
    """Where settings were written: the file, the line of each dotted name, and the overrides that came after.

    `names` gives the name that a setting has in the user's file where that is not ours (an MFTCoder JSON).
    """

    file: str | None = None
    lines: dict[str, int] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def override(self, setting: str, text: str) -> None:
        """Note that `setting` and all beneath it now come from the override `text`."""
        beneath = setting + "."
        kept = [name for name in self.overrides if name != setting and not name.startswith(beneath)]
        self.lines = {
            name: line for name, line in self.lines.items() if name != setting and not name.startswith(beneath)
        }
        self.names = {name: own for name, own in self.names.items() if name != setting and not name.startswith(beneath)}
        self.overrides = {name: self.overrides[name] for name in kept} | {setting: text}

    def line_of(self, fault: Fault) -> tuple[int, str]:
        """The fault's place in the reading order, and the fault as a line of the error."""
        if fault.line == NO_LINE:
            return _AFTER_THE_FILE, fault.message
        if fault.line is not None:
            return fault.line, self._line(fault.line, fault)
        prefix = fault.setting
        while prefix:
            if prefix in self.overrides:
                text = self.overrides[prefix]
                return _AFTER_THE_FILE, f"override '{text}': {_sentence(fault)}"
            name = self.names.get(prefix, prefix)
            if name in self.lines:
                return self.lines[name], self._line(self.lines[name], fault)
            prefix = prefix.rpartition(".")[0]
        for name, text in self.overrides.items():
            if name.startswith(f"{fault.setting}."):
                return _AFTER_THE_FILE, f"override '{text}': {_sentence(fault)}"
        return 1, self._line(1, fault)

    def _line(self, line: int, fault: Fault) -> str:
        renamed = fault._replace(setting=self.names.get(fault.setting, fault.setting))
        return f"{self.file}:{line}: {_sentence(renamed)}" if self.file else _sentence(renamed)


def _sentence(fault: Fault) -> str:
    return f"{fault.setting}: {fault.message}" if fault.setting else fault.message


def config_error(faults: Iterable[Fault], origins: Origins) -> ConfigError:
    """One error of all faults, each on its own line, in the order of the file."""
    lines = sorted((origins.line_of(fault) for fault in faults), key=lambda placed: placed[0])
    return ConfigError("\n".join(dict.fromkeys(text for _, text in lines)))
