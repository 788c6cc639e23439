"""weft from Python: the same verbs as the command line, with typed results and no printing.

    import weft
    run = weft.train("settings.yaml", "optimizer.lr=1e-3")
    print(run.losses_after)

Settings are a path (YAML or an MFTCoder JSON), a mapping, or a `Settings`; overrides are `"a.b=c"` and go with a path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from weft.config.load import from_mapping, load
from weft.config.resolve import resolve
from weft.config.settings import BalanceSettings, Settings
from weft.errors import ConfigError
from weft.types import Message, ProgressHook, silent

if TYPE_CHECKING:  # what these import takes seconds; they are imported when called
    from weft.data.checks import Check
    from weft.data.checks.stats import Stats
    from weft.data.forecast import Forecast
    from weft.data.prepare import Prepared
    from weft.evaluation.tasks import TaskScore
    from weft.export.merge import MergeReport
    from weft.export.soup import How, SoupReport
    from weft.generation.batch import Answer
    from weft.generation.decoding import Decoding
    from weft.report.side_by_side import Comparison
    from weft.report.suggest import Suggestions
    from weft.report.transfer import TransferReport
    from weft.training.run import RunResult

SettingsLike: TypeAlias = "str | Path | Mapping[str, object] | Settings"


def settings(source: SettingsLike, *overrides: str) -> Settings:
    """Settings with every default filled in. Raises ConfigError with all faults at once."""
    if isinstance(source, (str, Path)):
        return _balanced(resolve(load(source, overrides)))
    if overrides:
        raise ConfigError("overrides go with a settings file; change the mapping or the Settings itself")
    return _balanced(resolve(source if isinstance(source, Settings) else from_mapping(source)))


def _balanced(resolved: Settings) -> Settings:
    """The settings, once it is sure that the balancing method that they name has the options that they give it."""
    if resolved.balance == BalanceSettings():
        return resolved
    from weft import balance

    return balance.check(resolved)


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
    """Prepare the data and check it: masks, ledger, duplicates, contamination, and what is good to know."""
    from weft.data.checks import check as work

    resolved = settings(source, *overrides)
    prepared = prepare(resolved, progress=progress)
    return Checked(prepared, work(resolved, prepared, progress))


def stats(source: SettingsLike, *overrides: str, progress: ProgressHook = silent) -> Stats:
    """Prepare the data and count it: lengths, trained shares, bytes per token, what a pass over the mixture holds."""
    from weft.data.checks.stats import stats as work

    resolved = settings(source, *overrides)
    return work(resolved, prepare(resolved, progress=progress), progress)


def data_report(source: SettingsLike, *overrides: str, progress: ProgressHook = silent) -> str:
    """Prepare and check the data, and tell all of it on one page: HTML that needs nothing else."""
    from weft.data.report import report as work

    resolved = settings(source, *overrides)
    return work(resolved, prepare(resolved, progress=progress), progress)


def forecast(source: SettingsLike, *overrides: str, progress: ProgressHook = silent) -> Forecast:
    """What a run would do: rows, tokens, steps, memory, files; no weights are loaded."""
    from weft.data.forecast import forecast as work

    resolved = settings(source, *overrides)
    return work(resolved, prepare(resolved, progress=progress))


def train(source: SettingsLike, *overrides: str, progress: ProgressHook = silent) -> RunResult:
    """Train, or go on with a run that was interrupted, or find it done."""
    from weft.training.run import train as work

    return work(settings(source, *overrides), progress)


def evaluate(
    model: str | Path,
    source: SettingsLike,
    *overrides: str,
    held_out: Path | None = None,
    max_prompts: int = 100,
    progress: ProgressHook = silent,
) -> list[TaskScore]:
    """Score a run or a model on every task: validation loss, and exact match of greedy answers."""
    from weft.evaluation.tasks import evaluate as work

    return work(model, settings(source, *overrides), max_prompts, held_out, progress=progress)


def merge(run: str | Path, out: str | Path, base: str | None = None) -> MergeReport:
    """Fold a run's adapter into its base model; published only if the greedy tokens are the adapter's."""
    from weft.export.merge import merge as work

    return work(Path(run), Path(out), base)


def soup(
    run: str | Path,
    out: str | Path,
    *,
    steps: Sequence[int] = (),
    last: int | None = None,
    best_of: str | None = None,
    how: How = "greedy",
    by: str = "macro",
    progress: ProgressHook = silent,
) -> SoupReport:
    """Average a run's checkpoints (all, some steps, the last few, or a task's best) into one model, chosen on its validation rows."""
    from weft.export.soup import Wanted
    from weft.export.soup import soup as work

    return work(Path(run), Path(out), Wanted(tuple(steps), last, best_of), how, by, progress=progress)


def run_report(*runs: str | Path) -> str:
    """One page about one or several runs: HTML that needs nothing else."""
    from weft.report.page import page

    return page(runs)


def compare(*runs: str | Path) -> Comparison:
    """Several runs side by side: every task's last and best validation loss, and what was set otherwise."""
    from weft.report.side_by_side import compare as work

    return work([Path(run) for run in runs])


def transfer(
    run: str | Path,
    baselines: Path | None = None,
    *,
    train: bool = False,
    pairs: bool = False,
    progress: ProgressHook = silent,
) -> TransferReport:
    """A run beside runs of each of its tasks alone (`pairs`: and of all but one), which are read, or trained first: who helps whom."""
    from weft.report.baselines import default_folder, train_baselines
    from weft.report.read import read_run
    from weft.report.transfer import transfer as work

    record = read_run(Path(run))
    folder = baselines or default_folder(record.folder)
    if train:
        train_baselines(record, folder, pairs, progress)
    return work(record, folder)


def suggest(run: str | Path, baselines: Path | None = None) -> Suggestions:
    """The settings of the next run, from the record of one: every change with its reason."""
    from weft.report.suggest import suggest as work

    return work(run, baselines)


def generate(
    model: str | Path, prompts: Sequence[str | Sequence[Message]], decoding: Decoding | None = None
) -> list[Answer]:
    """Answers of a run or a model to prompts (a text, or the messages so far), in their order."""
    from weft.generation.batch import generate as work
    from weft.generation.decoding import Decoding
    from weft.generation.model import open_model

    asked = [[Message("user", prompt)] if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    return list(work(open_model(model), asked, decoding or Decoding()))
