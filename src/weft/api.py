"""weft from Python: the same verbs as the command line, with typed results and no printing.

    import weft
    run = weft.train("settings.yaml", "optimizer.lr=1e-3")
    print(run.losses_after)

Settings are a path (YAML or an MFTCoder JSON), a mapping, or a `Settings`; overrides are `"a.b=c"` and go with a path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from weft.config.load import from_mapping, load
from weft.config.resolve import resolve
from weft.config.settings import Settings
from weft.errors import ConfigError
from weft.types import ProgressHook, silent

if TYPE_CHECKING:  # what these import takes seconds; they are imported when called
    from weft.data.forecast import Forecast
    from weft.data.inspect import Check
    from weft.data.prepare import Prepared
    from weft.train.run import RunResult

SettingsLike: TypeAlias = "str | Path | Mapping[str, object] | Settings"


def settings(source: SettingsLike, *overrides: str) -> Settings:
    """Settings with every default filled in. Raises ConfigError with all faults at once."""
    if isinstance(source, (str, Path)):
        return resolve(load(source, overrides))
    if overrides:
        raise ConfigError("overrides go with a settings file; change the mapping or the Settings itself")
    return resolve(source if isinstance(source, Settings) else from_mapping(source))


def prepare(source: SettingsLike, *overrides: str, progress: ProgressHook = silent) -> Prepared:
    """Fill the token stores (or find them filled)."""
    from weft.data.prepare import prepare as work

    return work(settings(source, *overrides), progress)


@dataclass(frozen=True)
class Checked:
    """What `check` found: the stores with their ledgers, and each check's verdict."""

    prepared: Prepared
    checks: list[Check]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


def check(source: SettingsLike, *overrides: str, progress: ProgressHook = silent) -> Checked:
    """Prepare the data and prove its masks and its ledger."""
    from weft.data.inspect import check as work

    resolved = settings(source, *overrides)
    prepared = prepare(resolved, progress=progress)
    return Checked(prepared, work(resolved, prepared))


def forecast(source: SettingsLike, *overrides: str, progress: ProgressHook = silent) -> Forecast:
    """What a run would do: rows, tokens, steps, memory, files; no weights are loaded."""
    from weft.data.forecast import forecast as work

    resolved = settings(source, *overrides)
    return work(resolved, prepare(resolved, progress=progress))


def train(source: SettingsLike, *overrides: str, progress: ProgressHook = silent) -> RunResult:
    """Train, or go on with a run that was interrupted, or find it done."""
    from weft.train.run import train as work

    return work(settings(source, *overrides), progress)
