"""Weights that stay as the settings give them."""

from __future__ import annotations

from collections.abc import Mapping

from weft.balance.method import Floats, Look, NoOptions, TaskFacts, Wants
from weft.types import JsonObject

Options = NoOptions


class Fixed:
    """The weights that it was given, whatever it is shown."""

    wants: Wants = "nothing"

    def __init__(self, weight_K: Floats, formula: str) -> None:
        self._weight_K, self.formula = weight_K, formula

    def weights(self) -> Floats:
        return self._weight_K

    def see(self, look: Look) -> None:
        return None

    def see_training(self, step: int, loss_K: Floats) -> None:
        return None

    def numbers(self) -> Mapping[str, float | Floats]:
        return {}

    def state(self) -> JsonObject:
        return {}

    def load_state(self, state: JsonObject) -> None:
        return None


def build(tasks: TaskFacts, options: NoOptions) -> Fixed:
    return Fixed(tasks.weight_K, "w as set")
