"""The environment that a run writes down: what it was made on, and nothing about who made it."""

from __future__ import annotations

import getpass
import json
import platform
import socket
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from weft.training import environment
from weft.training.environment import Environment, describe


def test_the_environment_is_that_of_this_process() -> None:
    found = describe(torch.device("cpu"), 3)
    assert found.keys() == Environment.__annotations__.keys()
    assert json.loads(json.dumps(found)) == found
    assert (found["torch"], found["numpy"], found["python"]) == (
        torch.__version__,
        np.__version__,
        platform.python_version(),
    )
    assert (found["device"], found["gpu"], found["processes"]) == ("cpu", None, 3)
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] >= 1
    assert datetime.fromisoformat(found["started"]).tzinfo is not None


def test_it_names_no_user_host_or_folder() -> None:
    told = json.dumps(describe(torch.device("cpu"), 1))
    assert str(Path.home()) not in told
    assert socket.gethostname() not in told
    assert f'"{getpass.getuser()}"' not in told


def test_a_machine_that_has_no_list_of_processors_is_described_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "_CPU_INFO", tmp_path / "none")
    assert describe(torch.device("cpu"), 1)["cpu"] == (platform.processor() or platform.machine())
