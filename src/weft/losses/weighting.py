"""Every weighting method is one coefficient per trained token, known before the first forward pass.

The loss of an optimizer step is always Σ aᵢ·nllᵢ over all its trained tokens on all ranks. With mᵢ the token's own weight
(1 for an ordinary trained token), and sums taken over the *whole step*:

    token        aᵢ = mᵢ / N                      N    trained tokens (Σ m)
    sample       aᵢ = mᵢ / (S · n_s)              S    samples with a trained token, n_s trained tokens of sample s
    task         aᵢ = w_k · mᵢ / (W · N_k)        N_k  trained tokens of task k, W = Σ w over the tasks present
    task_sample  aᵢ = w_k · mᵢ / (W · S_k · n_s)  S_k  samples of task k

They are MFTCoder's case1 to case4 (arXiv 2311.02303, eq. 2 to 5), with counts over the step instead of one micro-batch.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Weighting: TypeAlias = Literal["token", "sample", "task", "task_sample"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def coefficients(weighting: Weighting, trained_S: Floats, task_S: Ints, weight_K: Floats) -> Floats:
    """The factor c_s of each sample of a step, so that aᵢ = c_s · mᵢ.

    trained_S: Σ m of each sample (0: nothing to train); task_S: its task; weight_K: each task's w. A sample without a trained
    token gets 0 and has no share; where nothing is trained at all, all are 0. The coefficients of a step add up to 1.
    """
    num_tasks = len(weight_K)
    present_S = trained_S > 0
    factor_S = np.zeros(len(trained_S))
    if not present_S.any():
        return factor_S
    tokens_K = np.bincount(task_S, weights=trained_S, minlength=num_tasks)
    samples_K = np.bincount(task_S[present_S], minlength=num_tasks).astype(np.float64)
    total_weight = weight_K[tokens_K > 0].sum()
    trained, task = trained_S[present_S], task_S[present_S]
    if weighting == "token":
        factor_S[present_S] = 1.0 / trained.sum()
    elif weighting == "sample":
        factor_S[present_S] = 1.0 / (len(trained) * trained)
    elif total_weight <= 0:
        return factor_S
    elif weighting == "task":
        factor_S[present_S] = weight_K[task] / (total_weight * tokens_K[task])
    else:
        factor_S[present_S] = weight_K[task] / (total_weight * samples_K[task] * trained)
    return factor_S


FORMULAS: dict[Weighting, str] = {
    "token": "Σ m·nll / N",
    "sample": "mean over samples of (Σ m·nll / n_s)",
    "task": "Σ_k w_k (Σ m·nll / N_k) / Σ_k w_k",
    "task_sample": "Σ_k w_k (mean over samples of k of Σ m·nll / n_s) / Σ_k w_k",
}
"""The formula in use, for the log."""
