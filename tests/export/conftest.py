from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.generation.runs import train_small
from weft.config.settings import Settings


@pytest.fixture(scope="session")
def lora_run(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of a finished LoRA run; its folder is `output`."""
    return train_small(model_folder("llama"), tmp_path_factory.mktemp("lora"))
