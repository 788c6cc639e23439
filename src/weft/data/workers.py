"""Several processes that prepare the parts of one source: each a fresh Python that gets part numbers on its standard input and
reports on its standard output, one line of JSON each.

No fork (threads of other libraries would not survive it) and nothing pickled: a worker is told the settings and works the rest out. It ends
when its input does, so none outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, NamedTuple

from weft.config.settings import Settings
from weft.data import templates
from weft.data.encoders import IdsDifferError, Wanted
from weft.data.read import read_task
from weft.data.sources import Chunk
from weft.data.tokens import Tokenizer
from weft.data.work import Done, Job, Tell, prepare_part
from weft.errors import DataError
from weft.types import JsonObject


class WorkerDiedError(DataError):
    """A process that prepared data ended before its part was done. The parts before it are whole."""


def run(job: Job, parts: Sequence[Sequence[Chunk]], waiting: Sequence[int], processes: int, tell: Tell) -> None:
    """Do the parts that wait. Raises DataError where a worker fails, IdsDifferError where its encoder failed its watch."""
    queue: SimpleQueue[int] = SimpleQueue()
    for number in waiting:
        queue.put(number)
    lock = threading.Lock()
    failures: list[Exception] = []

    def told(done: Done) -> None:
        with lock:
            tell(done)

    def serve() -> None:
        try:
            _serve(job, parts, queue, told, failures)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _serve(
    job: Job, parts: Sequence[Sequence[Chunk]], queue: SimpleQueue[int], tell: Tell, failures: list[Exception]
) -> None:
    with _started(job) as worker, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(worker.kill)  # it has nothing left to do, or is not to finish it
        assert worker.stdin is not None
        assert worker.stdout is not None
        while not failures:
            try:
                number = queue.get_nowait()
            except Empty:
                return
            with contextlib.suppress(BrokenPipeError):  # if it has ended, its output says why, or its exit code
                _say(worker.stdin, Part.of(number, parts[number]))
            if not _listen(worker.stdout, tell):
                code = worker.wait()
                hint = (
                    "; was it killed for want of memory?" if code == -signal.SIGKILL else "; what it said stands above"
                )
                raise WorkerDiedError(
                    f"task {job.reader.name}: a process that prepared data ended with exit code {code} in part {number}{hint} "
                    "Run again: finished parts are kept."
                )


def _started(job: Job) -> subprocess.Popen[str]:
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TOKENIZERS_PARALLELISM": "false",
    }
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", "weft.data.workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=variables,
    )
    assert worker.stdin is not None
    _say(worker.stdin, describe(job))
    return worker


def _say(stream: IO[str], message: object) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


def _listen(stream: IO[str], tell: Tell) -> bool:
    """Pass on what a worker reports of a part; False where it ended without finishing it."""
    for line in stream:
        message = json.loads(line)
        if "error" in message:
            raise FAILURES[message["kind"]](message["error"])
        if message.get("finished"):
            return True
        tell(Done(*message["done"]))
    return False


FAILURES: dict[str, type[Exception]] = {
    "IdsDifferError": IdsDifferError,
    "FileNotFoundError": FileNotFoundError,
    "DataError": DataError,
}
"""What a worker tells of instead of dying of it. A file that is gone may be a part's folder, moved by a faster preparation."""


def kind_of(error: Exception) -> str:
    """Which of FAILURES an error is."""
    return next(name for name, kind in FAILURES.items() if isinstance(error, kind))


def describe(job: Job) -> JsonObject:
    """A job as it can be sent to another process or machine that sees the same files."""
    return {
        "settings": job.settings.model_dump(mode="json", by_alias=True),
        "task": job.reader.name,
        "format": job.reader.format_name,
        "encoder": job.encoder.name,
        "folder": str(job.folder.absolute()),
        "tokenizer": str(job.tokenizer.folder.absolute()),
        "files": [file.name for file in job.reader.files],
    }


def job_of(described: Mapping[str, Any]) -> Job:
    """The job that was described. Raises DataError where the task has other files by now."""
    settings, task = Settings.model_validate(described["settings"]), str(described["task"])
    tokenizer = Tokenizer.load(str(described["tokenizer"]))
    wanted: Wanted = "gigatoken" if described["encoder"] == "gigatoken" else "tokenizers"
    encoder = tokenizer.choose_encoder(wanted, 0, parallel=False).encoder
    reader = read_task(task, settings.tasks[task], str(described["format"]))
    names = [file.name for file in reader.files]
    if names != described["files"]:
        raise DataError(
            f"task {task}: its files were {described['files']} and are {names}; prepare again when they rest"
        )
    template = templates.build(settings.template, tokenizer)
    return Job(settings.tasks[task], settings, reader, tokenizer, template, encoder, Path(described["folder"]))


class Part(NamedTuple):
    """A part as it can be sent: its number, and its chunks as (name of the file, first byte, last byte, first line)."""

    number: int
    chunks: list[tuple[str, int, int, int]]

    @classmethod
    def of(cls, number: int, chunks: Sequence[Chunk]) -> Part:
        return cls(number, [(c.file.name, c.start, c.stop, c.first_line) for c in chunks])

    def prepare(self, job: Job, tell: Tell) -> None:
        """Do it. Raises DataError where the file is no longer there."""
        by_name = {file.name: file for file in job.reader.files}
        gone = [name for name, *_ in self.chunks if name not in by_name]
        if gone:
            raise DataError(f"task {job.reader.name}: {gone[0]} is no longer there")
        chunks = [Chunk(by_name[name], start, stop, line) for name, start, stop, line in self.chunks]
        prepare_part(job, self.number, chunks, tell)


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a user's own format prints must not get between the messages
    try:
        job = job_of(json.loads(sys.stdin.readline()))
        for line in sys.stdin:
            Part(*json.loads(line)).prepare(job, lambda done: _say(out, {"done": list(done)}))
            _say(out, {"finished": True})
    except BrokenPipeError:
        sys.exit(1)  # whoever asked for the work is gone
    except tuple(FAILURES.values()) as error:
        _say(
            out,
            {"error": str(error), "kind": kind_of(error)},
        )


if __name__ == "__main__":
    main()
