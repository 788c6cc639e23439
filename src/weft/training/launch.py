"""Starting several processes on this machine through torch's own elastic launcher: it finds a port and ends all when one dies."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from weft.errors import TrainingError


def launch(processes: int, function: Callable[..., None], *arguments: object) -> None:
    """Run `function(*arguments)` once in each of `processes` processes. Raises TrainingError naming the rank that failed."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="spawn",
    )
    try:
        elastic_launch(config, function)(*arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        message = (
            failure.message
            if isinstance(failure.message, str)
            else str(failure.message.get("message", failure.message))
        )
        raise TrainingError(f"process of rank {rank} failed (exit code {failure.exitcode}): {message}") from error
