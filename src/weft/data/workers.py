"""Several processes that prepare the parts of one source: each a fresh Python that gets part numbers on its standard input and
reports on its standard output, one line of JSON each.

No fork (threads of other libraries would not survive it) and nothing pickled: a worker is told the settings and works the rest out. It ends
when its input does, so none outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
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
                _say(worker.stdin, Part.of(job, number, parts[number]))
            if not _listen(worker.stdout, tell):
                raise DataError(
                    f"task {job.reader.name}: a process that prepared data ended with exit code {worker.wait()} in part {number}; "
                    "was it killed for memory? Run again: finished parts are kept"
                )


def _started(job: Job) -> subprocess.Popen[str]:
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TOKENIZERS_PARALLELISM": "false",
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "weft.data.workers"],
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
            raise (
                IdsDifferError(message["error"]) if message["kind"] == "IdsDifferError" else DataError(message["error"])
            )
        if message.get("finished"):
            return True
        tell(Done(*message["done"]))
    return False


def describe(job: Job) -> JsonObject:
    """A job as it can be sent to another process or machine that sees the same files."""
    return {
        "settings": job.settings.model_dump(mode="json", by_alias=True),
        "task": job.reader.name,
        "format": job.reader.format_name,
        "encoder": job.encoder.name,
        "folder": str(job.folder.absolute()),
    }


def job_of(described: Mapping[str, Any]) -> Job:
    """The job that was described."""
    settings, task = Settings.model_validate(described["settings"]), str(described["task"])
    tokenizer = Tokenizer.load(settings.model.base)
    wanted: Wanted = "gigatoken" if described["encoder"] == "gigatoken" else "tokenizers"
    encoder = tokenizer.choose_encoder(wanted, 0, parallel=False).encoder
    reader = read_task(task, settings.tasks[task], str(described["format"]))
    template = templates.build(settings.template, tokenizer)
    return Job(settings.tasks[task], settings, reader, tokenizer, template, encoder, Path(described["folder"]))


class Part(NamedTuple):
    """A part as it can be sent: its number, and its chunks as (number of the file, first byte, last byte, first line)."""

    number: int
    chunks: list[tuple[int, int, int, int]]

    @classmethod
    def of(cls, job: Job, number: int, chunks: Sequence[Chunk]) -> Part:
        place = {file.name: index for index, file in enumerate(job.reader.files)}
        return cls(number, [(place[c.file.name], c.start, c.stop, c.first_line) for c in chunks])

    def prepare(self, job: Job, tell: Tell) -> None:
        """Do it."""
        chunks = [Chunk(job.reader.files[place], start, stop, line) for place, start, stop, line in self.chunks]
        prepare_part(job, self.number, chunks, tell)


def main() -> None:
    out = sys.stdout
    sys.stdout = sys.stderr  # what a user's own format prints must not get between the messages
    try:
        job = job_of(json.loads(sys.stdin.readline()))
        for line in sys.stdin:
            Part(*json.loads(line)).prepare(job, lambda done: _say(out, {"done": list(done)}))
            _say(out, {"finished": True})
    except BrokenPipeError:
        sys.exit(1)  # whoever asked for the work is gone
    except (DataError, IdsDifferError) as error:
        _say(out, {"error": str(error), "kind": type(error).__name__})


if __name__ == "__main__":
    main()
