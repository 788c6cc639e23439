"""CoBa (arXiv 2410.06741): slow tasks get more while all converge, and a task that starts to diverge gets less.

    r_k(t)   = loss_k(t) / loss_k at the first look
    α_k(t)   = least-squares slope of r_k over the last `window` steps, evaluated for every task at every look
    RCS_k    = softmax_k(K · α_k / Σ_j |α_j|)                                 relative: slow tasks get more
    ACS_k    = softmax_k(-N · α_k(t) / Σ_s |α_k(s)|)                          absolute: N looks s of the window; diverging tasks get less
    DF       = min(1, t · softmax_t(-τ · t · α_max(t) / Σ_{s≤t} |α_max(s)|))  α_max = max_k α_k; t counts the looks since the warm-up
    ω        = DF · RCS + (1 - DF) · ACS

Suffixes: K tasks, N looks of the window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
from pydantic import Field, model_validator

from weft.balance.balancers._curves import Curves
from weft.balance.balancers._values import LEAST_LOSS, clean, num_steps_of, pack, told, unknown, unpack
from weft.balance.method import Floats, Look, TaskFacts, Wants, softmax, weighted
from weft.config.settings import Section
from weft.types import JsonObject

STILL = 1e-4
"""A loss that moves by less than this share over a window stands still: what moves it is rounding, and is not scaled up."""

_HALF = 0.5


class Options(Section):
    warmup: float = Field(0.1, ge=0, allow_inf_nan=False)
    """Even weights until so many steps, while the history collects: below 1 a share of all steps, else a number of steps."""
    window: float = Field(0.2, gt=0, allow_inf_nan=False)
    """Slopes are of so many last steps: below 1 a share of all steps, else a number of steps."""
    tau: float = Field(5.0, gt=0, allow_inf_nan=False)
    """τ of the divergence factor: how sharply it turns from RCS to ACS."""
    rcs: bool = True
    """Whether slow tasks get more; without it, ω = ACS."""
    acs: bool = True
    """Whether diverging tasks get less; without it, ω = RCS."""
    df: bool = True
    """Whether the divergence factor mixes the two; without it, half of each."""

    @model_validator(mode="after")
    def _has_parts(self) -> Options:
        if not (self.rcs or self.acs):
            raise ValueError("rcs and acs are both off, which leaves no weights; use balance.method: fixed")
        if not self.df and not (self.rcs and self.acs):
            raise ValueError("df is off beside rcs or acs, and without both there is nothing to mix; leave df out")
        return self


class Coba:
    wants: Wants = "losses"
    _first_K: Floats
    _curves: Curves
    _alphas: list[tuple[int, Floats]]
    _num_looks: int
    _log_sum: float
    _sum_max: float
    _omega_K: Floats
    _numbers: dict[str, float | Floats]

    def __init__(self, tasks: TaskFacts, options: Options) -> None:
        self._tasks, self._options = tasks, options
        self._warmup = num_steps_of(options.warmup, tasks.num_steps)
        self._window = max(1, num_steps_of(options.window, tasks.num_steps))
        self.formula = _formula(options)
        self.load_state({})

    def weights(self) -> Floats:
        return weighted(self._tasks, self._omega_K)

    def see(self, look: Look) -> None:
        loss_K = clean(look.loss_K)
        self._first_K = np.where(np.isfinite(self._first_K), self._first_K, np.maximum(loss_K, LEAST_LOSS))
        self._curves.add(look.step, loss_K / self._first_K)
        alpha_K = self._curves.slopes(look.step)
        if look.step >= self._warmup and np.isfinite(alpha_K).any():
            self._balance(look.step, alpha_K)

    def _balance(self, step: int, alpha_K: Floats) -> None:
        self._alphas = [(s, a_K) for s, a_K in self._alphas if s > step - self._window] + [(step, alpha_K)]
        still = STILL / self._window  # per step
        known_K = np.isfinite(alpha_K)
        rcs_K = softmax(alpha_K / (np.abs(alpha_K[known_K]).mean() + still))
        alpha_NK = np.abs([a_K for _, a_K in self._alphas])
        num_K = np.isfinite(alpha_NK).sum(axis=0)
        mean_K = np.where(np.isfinite(alpha_NK), alpha_NK, 0.0).sum(axis=0) / np.maximum(num_K, 1)
        acs_K = softmax(-alpha_K / (mean_K + still))
        df = self._divergence_factor(float(alpha_K[known_K].max()), still)
        if not self._options.rcs:
            omega_K = acs_K
        elif not self._options.acs:
            omega_K = rcs_K
        else:
            omega_K = df * rcs_K + (1 - df) * acs_K
        self._omega_K = np.where(known_K, omega_K, np.nan)
        self._numbers = {"alpha": told(alpha_K), "RCS": rcs_K, "ACS": acs_K, "DF": df}

    def _divergence_factor(self, alpha_max: float, still: float) -> float:
        """DF at one more look t: near 1 while the slowest task falls as it did, towards 0 as it stops to fall and rises.

        The logit of each look is divided by the mean up to that look, as the formula has it; by the mean of the whole history, the first
        steep slopes would outweigh all that follows, and DF would vanish in every run that merely flattens.
        """
        if not self._options.df:
            return _HALF
        self._num_looks += 1
        self._sum_max += abs(alpha_max)
        logit = -self._options.tau * alpha_max / (self._sum_max / self._num_looks + still)
        self._log_sum = float(np.logaddexp(self._log_sum, logit)) if self._num_looks > 1 else logit
        return min(1.0, self._num_looks * math.exp(logit - self._log_sum))

    def see_training(self, step: int, loss_K: Floats) -> None:
        return None

    def numbers(self) -> Mapping[str, float | Floats]:
        return self._numbers

    def state(self) -> JsonObject:
        return {
            "first": pack(self._first_K),
            "curves": self._curves.state(),
            "alphas": [[step, pack(alpha_K)] for step, alpha_K in self._alphas],
            "num_looks": self._num_looks,
            "log_sum": self._log_sum,
            "sum_max": self._sum_max,
            "omega": pack(self._omega_K),
            "numbers": {n: v if isinstance(v, float) else pack(v) for n, v in self._numbers.items()},
        }

    def load_state(self, state: JsonObject) -> None:
        nothing_K = unknown(len(self._tasks.names))
        self._first_K = unpack(state, "first", nothing_K)
        self._curves = Curves(len(nothing_K), self._window)
        self._curves.load_state(cast(JsonObject, state.get("curves", {})))
        alphas = cast("list[tuple[int, list[float | None]]]", state.get("alphas", []))
        self._alphas = [(step, np.array(alpha_K, dtype=np.float64)) for step, alpha_K in alphas]
        self._num_looks = int(cast(int, state.get("num_looks", 0)))
        self._log_sum = float(cast(float, state.get("log_sum", 0.0)))
        self._sum_max = float(cast(float, state.get("sum_max", 0.0)))
        self._omega_K = unpack(state, "omega", nothing_K)
        numbers = cast("dict[str, float | list[float]]", state.get("numbers", {}))
        self._numbers = {n: np.array(v) if isinstance(v, list) else v for n, v in numbers.items()}


def _formula(options: Options) -> str:
    if not options.rcs:
        return "ω = ACS"
    if not options.acs:
        return "ω = RCS"
    return "ω = DF · RCS + (1 - DF) · ACS" if options.df else "ω = (RCS + ACS) / 2"


def build(tasks: TaskFacts, options: Options) -> Coba:
    return Coba(tasks, options)
