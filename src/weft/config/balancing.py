"""What of the settings of balancing, freezing and the best checkpoint can't be honoured together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.config.settings import Settings


def balance_conflicts(settings: Settings) -> Iterator[str]:
    """Every such combination, as `section.setting: message`."""
    balance, weighting, mixture = settings.balance, settings.loss.weighting, settings.mixture
    by_task = weighting in ("task", "task_sample")
    if balance.method == "fixed" and balance.act_on == "both" and not by_task:
        yield f"balance.act_on: both: loss.weighting: {weighting} does not look at the tasks' weights; set act_on: sampling"
    if balance.method != "fixed" and balance.act_on in ("loss", "both") and not by_task:
        yield (
            f"balance.method: {balance.method} sets the tasks' weights, which loss.weighting: {weighting} does not look at; "
            "set loss.weighting: task (or task_sample), or balance.act_on: sampling"
        )
    if balance.act_on == "sampling" and by_task:
        yield (
            f"balance.act_on: sampling: loss.weighting: {weighting} gives every task its share however often it is drawn; "
            "set loss.weighting: token (or sample), or balance.act_on: both"
        )
    if balance.act_on != "loss" and (mixture.by != "trained_tokens" or mixture.stages):
        yield (
            f"balance.act_on: {balance.act_on} shares out the trained tokens anew in each stage; "
            "set mixture.by: trained_tokens with mixture.weights to start from, and no mixture.stages"
        )
    if balance.act_on == "loss" and balance.stage_steps:
        yield "balance.stage_steps: has no effect with balance.act_on: loss; set act_on: sampling or both"
    asked = [f"tasks.{name}.freeze_after" for name, task in settings.tasks.items() if task.freeze_after]
    asked += ["validate.freeze_after"] if settings.validate_.freeze_after else []
    if asked and balance.method == "replay":
        yield f"{asked[0]}: has no effect with balance.method: replay, for the record says who was frozen; leave it out, or set it to null"
    asked += ["validate.interference"] if settings.validate_.interference else []
    asked += ["validate.stop_after"] if settings.validate_.stop_after else []
    asked += [f"save.final: {settings.save.final}"] if settings.save.final != "last" else []
    asked += ["save.best_of_tasks"] if settings.save.best_of_tasks else []
    if asked and not settings.data.validation:
        yield f"{asked[0]}: needs validation rows, and data.validation is 0; raise it"
