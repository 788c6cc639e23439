from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.generation.runs import BY_HEART, train_small
from weft.config.settings import Settings


@pytest.fixture(scope="session")
def lora_run(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of a finished LoRA run; its folder is `output`."""
    return train_small(model_folder("llama"), tmp_path_factory.mktemp("lora"))


@pytest.fixture(scope="session")
def by_heart(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of a finished run of full fine-tuning that knows its answers by heart."""
    return train_small(model_folder("llama"), tmp_path_factory.mktemp("heart"), **BY_HEART)
