"""Numbers made ready to be drawn: even ticks, fewer points, smoother lines. Suffix N: points of a line."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` even numbers (1, 2 or 5 times a power of ten apart) within a range."""
    if not high > low or most < 1:
        return [low]
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (size, 2 * size, 5 * size, 10 * size, 20 * size):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [number * step for number in range(first, last + 1)]


def decimals(values: list[float]) -> int:
    """How many digits behind the point tell even numbers apart."""
    if len(values) < 2:
        return 2
    step = values[1] - values[0]
    return next((n for n in range(8) if abs(step * 10**n - round(step * 10**n)) < 1e-6), 8)


def thinned(x_N: Floats, y_N: Floats, most: int) -> tuple[Floats, Floats]:
    """About `most` points of a line that look like all of them: the ends, and every stretch's lowest and highest point."""
    number = len(x_N)
    if number <= most:
        return x_N, y_N
    size = -(-number // max(1, most // 2))
    padding = np.full(-number % size, np.nan)
    y_BS = np.concatenate([y_N, padding]).reshape(-1, size)
    known_B = np.isfinite(y_BS).any(axis=1)
    start_B = (np.arange(len(y_BS)) * size)[known_B]
    lowest_B = start_B + np.where(np.isfinite(y_BS), y_BS, np.inf)[known_B].argmin(axis=1)
    highest_B = start_B + np.where(np.isfinite(y_BS), y_BS, -np.inf)[known_B].argmax(axis=1)
    places = np.union1d(np.concatenate([lowest_B, highest_B]), [0, number - 1]).astype(np.int64)
    return x_N[places], y_N[places]


def smoothed(y_N: Floats, width: int) -> Floats:
    """Each point's mean with the points around it, `width` in all where there are so many; NaN counts nowhere and stays."""
    known_N = np.isfinite(y_N)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known_N, y_N, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known_N)])
    place_N, half = np.arange(len(y_N)), width // 2
    low_N, high_N = np.maximum(place_N - half, 0), np.minimum(place_N + half + 1, len(y_N))
    with np.errstate(invalid="ignore"):
        mean_N: Floats = (sums[high_N] - sums[low_N]) / (counts[high_N] - counts[low_N])
    return np.where(known_N, mean_N, np.nan)


def bins(num_steps: int, most: int) -> Floats:
    """The edges of at most `most` stretches of the steps 1 … num_steps, whole numbers; a stretch is (edge, next edge]."""
    return np.unique(np.linspace(0, num_steps, min(num_steps, most) + 1).round())


def sums_of_bins(x_N: Floats, y_N: Floats, edge_B: Floats) -> Floats:
    """The sum of the numbers in each stretch; NaN counts nowhere."""
    known_N = np.isfinite(y_N)
    return np.histogram(x_N[known_N], edge_B + 0.5, weights=y_N[known_N])[0].astype(np.float64)


def held(x_N: Floats, y_N: Floats, at_M: Floats) -> Floats:
    """What was in force at the places M, of numbers that hold from their place on; NaN before the first."""
    if not len(x_N):
        return np.full(len(at_M), np.nan)
    place_M = np.searchsorted(x_N, at_M, side="right") - 1
    return np.where(place_M >= 0, y_N[np.maximum(place_M, 0)], np.nan)


def by_likeness(like_KK: Floats) -> list[int]:
    """An order in which like ones are neighbours: the leaves of average-linkage clustering, each two groups joined at their likest ends."""
    like_KK = np.nan_to_num((like_KK + like_KK.T) / 2, nan=0.0)
    mean_KK = like_KK.copy()
    np.fill_diagonal(mean_KK, -np.inf)
    groups = {k: [k] for k in range(len(like_KK))}
    while len(groups) > 1:
        a, b = sorted(divmod(int(mean_KK.argmax()), len(mean_KK)))
        one, other = groups[a], groups.pop(b)
        row_K = (len(one) * mean_KK[a] + len(other) * mean_KK[b]) / (len(one) + len(other))
        ends = [(like_KK[x[-1], y[0]], x, y) for x in (one, one[::-1]) for y in (other, other[::-1])]
        _, left, right = max(ends, key=lambda end: float(end[0]))
        groups[a] = left + right
        mean_KK[a] = mean_KK[:, a] = row_K
        mean_KK[a, a] = -np.inf
        mean_KK[b] = mean_KK[:, b] = -np.inf
    return next(iter(groups.values()), [])
