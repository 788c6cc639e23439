"""The tasks' weights while training: a method (one file each in `balancers/`), and what holds whatever the method is.

A frozen task weighs 0. The loss follows the weights, or how often each task is drawn does, or both. All of it is a pure function of
what was seen, so a resumed run goes on with the same bytes, and a run can be replayed from its record (`balancers/replay`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from pydantic import ValidationError

from weft import plugins
from weft.balance.method import Floats, Method, TaskFacts
from weft.config.settings import BalanceSettings, Section, Settings
from weft.config.words import did_you_mean, show
from weft.errors import ConfigError
from weft.types import JsonObject

PACKAGE = "weft.balance.balancers"
_TOLD_TASKS = 12


class Balance:
    """The weights of a run, and all that moves them. Suffix K: one entry a task."""

    def __init__(self, method: Method, tasks: TaskFacts, act_on: str) -> None:
        self.method, self.tasks = method, tasks
        self._on_loss, self._on_sampling = act_on != "sampling", act_on != "loss"
        self.frozen: set[str] = set()
        self.shares: list[list[float]] = []
        """With sampling: the shares of the trained tokens of each pass so far."""

    @property
    def may_freeze(self) -> bool:
        """Not where weights are replayed: then the record says who was frozen, and when."""
        return not getattr(self.method, "replays", False)

    def weights(self) -> Floats:
        """w of each task now; 0 where it is frozen."""
        return np.where(self.is_frozen_K, 0.0, self.method.weights())

    def loss_weights(self) -> Floats:
        """w of each task in the loss of the next step."""
        weight_K = self.weights()
        return weight_K if self._on_loss else (weight_K > 0).astype(np.float64)

    def next_shares(self, base_K: Floats) -> Floats:
        """The share of the trained tokens of each task in the next pass: base · w, together 1; noted down."""
        share_K: Floats = base_K * self.weights()
        share_K = share_K / share_K.sum()
        self.shares.append(share_K.tolist())
        return share_K

    @property
    def is_frozen_K(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return np.array([name in self.frozen for name in self.tasks.names])

    def state(self) -> JsonObject:
        return {"method": self.method.state(), "frozen": sorted(self.frozen), "shares": cast(Any, self.shares)}

    def load_state(self, state: JsonObject) -> None:
        self.method.load_state(cast(JsonObject, state.get("method", {})))
        self.frozen = set(cast(list[str], state.get("frozen", [])))
        self.shares = cast(list[list[float]], state.get("shares", []))

    def record(self) -> JsonObject:
        """The weights and the formula's parts, for the journal."""
        return {
            "weights": cast(Any, self._named(self.weights())),
            "numbers": {k: self._plain(v) for k, v in self._numbers()},
        }

    def told(self) -> str:
        """The formula's parts in one line, for people; of many tasks the heaviest and the lightest."""
        weight_K, order = self.weights(), np.argsort(-self.weights(), kind="stable")
        shown = order if len(order) <= _TOLD_TASKS else np.concatenate([order[:4], order[-4:]])
        parts = [f"{name} {value:.3g}" for name, value in self._numbers() if isinstance(value, float)]
        per_task = [(name, value) for name, value in self._numbers() if not isinstance(value, float)]
        for k in shown:
            inside = ", ".join(f"{name} {value[k]:.3g}" for name, value in per_task)
            parts.append(f"{self.tasks.names[k]} w {weight_K[k]:.3g}" + (f" ({inside})" if inside else ""))
        return "; ".join(parts) + (
            "" if len(shown) == len(order) else f"; {len(order) - len(shown)} more tasks between"
        )

    def _numbers(self) -> Iterator[tuple[str, float | Floats]]:
        for name, value in self.method.numbers().items():
            yield name, value if isinstance(value, np.ndarray) else float(value)

    def _plain(self, value: float | Floats) -> Any:
        return value if isinstance(value, float) else self._named(value)

    def _named(self, values_K: Floats) -> dict[str, float]:
        return {n: float(v) for n, v in zip(self.tasks.names, values_K, strict=True) if np.isfinite(v)}


def build(settings: Settings, tasks: TaskFacts) -> Balance:
    """The balance of a run. Raises ConfigError for an unknown method, and for options that it doesn't have."""
    balance = settings.balance
    make = plugins.find(PACKAGE, balance.method, "build", "balance.method")
    return Balance(make(tasks, options_of(settings)), tasks, balance.act_on)


def options_of(settings: Settings) -> Section:
    """The method's own settings, checked. Raises ConfigError with all faults."""
    balance = settings.balance
    plugins.find(PACKAGE, balance.method, "build", "balance.method")
    module, _, _ = balance.method.partition(":")
    where = f"{module}:Options" if ":" in balance.method else balance.method
    kind: type[Section] = plugins.find(PACKAGE, where, "Options", "balance.method")
    known = list(kind.model_fields)
    try:
        return kind.model_validate(balance.options)
    except ValidationError as error:
        faults = []
        for entry in error.errors(include_url=False):
            name = ".".join(map(str, entry["loc"]))
            if entry["type"] == "extra_forbidden":
                of = f"there is no such option; {balance.method} has {', '.join(known) or 'none'}"
                faults.append(f"balance.options.{name}: {of}{did_you_mean(name, known)}")
            elif entry["type"] == "missing":
                faults.append(f"balance.options.{name}: is required by balance.method: {balance.method}")
            else:
                faults.append(f"balance.options{'.' if name else ''}{name}: {show(entry['input'])}: {entry['msg']}")
        raise ConfigError("\n".join(faults)) from error


def check(settings: Settings) -> Settings:
    """The settings as they are, if the balancing that they ask for can be done. Raises ConfigError with all faults."""
    faults: list[str] = []
    try:
        wants = build(settings, _any_tasks(settings)).method.wants
        faults += _looks_conflicts(settings, wants)
    except ConfigError as error:
        faults += str(error).splitlines()
    if faults:
        raise ConfigError("\n".join(faults))
    return settings


def _any_tasks(settings: Settings) -> TaskFacts:
    """The tasks before their rows are known."""
    weight_K = np.array([task.weight for task in settings.tasks.values()])
    return TaskFacts(tuple(settings.tasks), weight_K, np.ones(len(weight_K)), 1, settings.balance.act_on)


def _looks_conflicts(settings: Settings, wants: str) -> Iterator[str]:
    balance = settings.balance
    if wants != "nothing" and not settings.data.validation:
        yield f"balance.method: {balance.method} looks at validation rows, and data.validation is 0; raise it"
    if wants == "nothing" and balance.rows != BalanceSettings().rows and not settings.validate_.interference:
        yield f"balance.rows: has no effect, for nothing looks at validation rows with balance.method: {balance.method}; leave it out"
    if wants == "nothing" and balance.every:
        yield f"balance.every: has no effect, for balance.method: {balance.method} looks at no validation rows; leave it out"
