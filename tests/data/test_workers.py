"""Preparing by several processes, by a cluster, after a kill, in little memory: the same bytes, whoever did the work."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from weft.config.settings import Settings
from weft.data import prepare as room
from weft.data import workers
from weft.data.prepare import prepare
from weft.data.store import Store
from weft.errors import DataError
from weft.types import Progress

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "nine",
    "wizards",
    "vex",
    "bad",
    "gnomes",
    "3",
    "+",
    "4",
    "=",
    "7",
]


def write_rows(file: Path, number: int, words: int = 12, seed: int = 0) -> None:
    """Question and answer rows, some of them not usable."""
    draw = random.Random(seed)
    with file.open("w") as out:
        for i in range(number):
            text = " ".join(draw.choices(WORDS, k=draw.randint(1, words)))
            row: dict[str, Any] = {"question": f"{i}: {text}?", "answer": text}
            if i % 50 == 7:
                row = {"question": text, "answer": ""}
            out.write("{broken\n" if i % 50 == 31 else json.dumps(row) + "\n")


def settings_of(base: Path, folder: Path, cache: Path, **data: Any) -> Settings:
    return Settings.model_validate(
        {
            "model": {"base": str(base)},
            "tasks": {"qa": str(folder)},
            "template": "mftcoder",
            "data": {"max_tokens": 64, "cache": str(cache), **data},
            "output": str(cache.parent / "run"),
        }
    )


def bytes_of(store: Store) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(store.folder.iterdir())}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two files that make about a dozen parts."""
    folder = tmp_path / "rows"
    folder.mkdir()
    write_rows(folder / "a.jsonl", 3000)
    write_rows(folder / "b.jsonl", 700, seed=1)
    monkeypatch.setattr(room, "PART_BYTES", 20_000)
    return folder


def test_one_process_and_three_make_the_same_bytes(tokenizer_folder: Path, source: Path, tmp_path: Path) -> None:
    one = prepare(settings_of(tokenizer_folder, source, tmp_path / "one")).stores[0]
    assert one.num_parts > 8
    three = prepare(settings_of(tokenizer_folder, source, tmp_path / "three", processes=3)).stores[0]
    assert bytes_of(one) == bytes_of(three)
    ledger = one.ledger
    assert ledger.read == 3700 == ledger.used + ledger.quarantined + sum(ledger.dropped.values())
    assert [path for path in (tmp_path / "three").iterdir() if path.name != "digests"] == [three.folder]


def test_parts_do_not_change_what_is_stored(
    tokenizer_folder: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = prepare(settings_of(tokenizer_folder, source, tmp_path / "many")).stores[0]
    monkeypatch.setattr(room, "PART_BYTES", 1 << 24)
    whole = prepare(settings_of(tokenizer_folder, source, tmp_path / "whole")).stores[0]
    assert whole.num_parts == 1
    assert (many.ledger, len(many)) == (whole.ledger, len(whole))
    assert [many.name(i) for i in range(len(many))] == [whole.name(i) for i in range(len(whole))]
    for index in range(0, len(many), 17):
        assert many.sample(index).ids_T.tolist() == whole.sample(index).ids_T.tolist()
    rejects = [(store.folder / "rejects.jsonl").read_bytes() for store in (many, whole)]
    assert rejects[0] == rejects[1]


def test_progress_comes_with_bytes_rates_and_the_first_sample_before_the_last_row(
    tokenizer_folder: Path, source: Path, tmp_path: Path
) -> None:
    for processes in (1, 2):
        told: list[Progress] = []
        prepare(settings_of(tokenizer_folder, source, tmp_path / f"{processes}", processes=processes), told.append)
        total = sum(file.stat().st_size for file in source.iterdir())
        assert told[-1].done == told[-1].total == total
        assert [p.done for p in told] == sorted(p.done for p in told)
        assert "rows/s" in told[0].note
        shown = [place for place, p in enumerate(told) if p.text]
        assert len(shown) == 1
        assert told[shown[0]].done < total
        assert told[shown[0]].text.startswith("<s>human\n0: ")
        assert "⟦" in told[shown[0]].text


def test_a_killed_preparation_goes_on_where_it_was(
    tokenizer_folder: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = room.prepare_part

    def dies(job: Any, number: int, *rest: Any) -> None:
        if number == 5:
            raise KeyboardInterrupt
        calls.append(number)
        real(job, number, *rest)

    settings = settings_of(tokenizer_folder, source, tmp_path / "cache")
    monkeypatch.setattr(room, "prepare_part", dies)
    with pytest.raises(KeyboardInterrupt):
        prepare(settings)
    assert calls == [0, 1, 2, 3, 4]
    monkeypatch.setattr(
        room, "prepare_part", lambda job, number, *rest: (calls.append(number), real(job, number, *rest))
    )
    store = prepare(settings).stores[0]
    assert calls == list(range(store.num_parts)), "no part was done twice"
    again = prepare(settings_of(tokenizer_folder, source, tmp_path / "undisturbed")).stores[0]
    assert bytes_of(store) == bytes_of(again)


PREPARE = """
import json, sys
from weft.config.settings import Settings
from weft.data import prepare
prepare.PART_BYTES = 20_000
prepare.prepare(Settings.model_validate(json.loads(sys.argv[1])))
"""


def start(settings: Settings) -> subprocess.Popen[bytes]:
    text = json.dumps(settings.model_dump(mode="json", by_alias=True))
    return subprocess.Popen([sys.executable, "-c", PREPARE, text], start_new_session=True)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_kills_at_random_moments_end_in_the_same_store(
    tokenizer_folder: Path, source: Path, tmp_path: Path, processes: int
) -> None:
    """The kill takes the asking process alone: its workers must end by themselves."""
    write_rows(source / "c.jsonl", 12_000, seed=2)
    settings = settings_of(tokenizer_folder, source, tmp_path / "cache", processes=processes)
    draw = random.Random(processes)
    killed = 0
    for _ in range(40):
        process = start(settings)
        try:
            assert process.wait(timeout=draw.uniform(0.4, 1.6) if killed < 6 else 120) == 0
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed
    deadline = time.monotonic() + 10
    while _workers_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _workers_of(process.pid)
    store = prepare(settings).stores[0]
    undisturbed = prepare(settings_of(tokenizer_folder, source, tmp_path / "undisturbed")).stores[0]
    assert bytes_of(store) == bytes_of(undisturbed)


def _workers_of(session: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def test_a_worker_that_dies_is_told_and_its_finished_parts_stay(
    tokenizer_folder: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = workers._started
    started: list[subprocess.Popen[str]] = []

    def begin(job: Any) -> subprocess.Popen[str]:
        process = real(job)
        started.append(process)
        return process

    def tell(progress: Progress) -> None:
        started[0].kill()

    monkeypatch.setattr(workers, "_started", begin)
    settings = settings_of(tokenizer_folder, source, tmp_path / "cache", processes=2)
    with pytest.raises(DataError, match=r"task qa: a process that prepared data ended with exit code -9 in part \d+"):
        prepare(settings, tell)
    monkeypatch.undo()
    monkeypatch.setattr(room, "PART_BYTES", 20_000)
    (unfinished,) = (tmp_path / "cache").glob("*.parts")
    kept = {file.name: file.stat().st_mtime_ns for file in unfinished.glob("*.json")}
    assert kept, "what was finished stays"
    store = prepare(settings).stores[0]
    assert bytes_of(store) == bytes_of(prepare(settings_of(tokenizer_folder, source, tmp_path / "u")).stores[0])


def test_a_file_that_comes_while_the_data_is_prepared_is_not_read(
    tokenizer_folder: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process reads the files that it has listed; several refuse, for they list them again."""

    def come(settings: Settings, *rest: Any) -> Any:
        write_rows(source / "0.jsonl", 50, seed=9)
        return real(settings, *rest)

    real = room._encoder
    monkeypatch.setattr(room, "_encoder", come)
    store = prepare(settings_of(tokenizer_folder, source, tmp_path / "one")).stores[0]
    assert store.files == ("a.jsonl", "b.jsonl")
    assert store.name(0).startswith("qa:a.jsonl:")
    (source / "0.jsonl").unlink()
    with pytest.raises(DataError, match=r"its files were \['a.jsonl', 'b.jsonl'\] and are \['0.jsonl', "):
        prepare(settings_of(tokenizer_folder, source, tmp_path / "two", processes=2))


def test_two_preparations_at_once_by_several_processes_end_in_one_store(
    tokenizer_folder: Path, source: Path, tmp_path: Path
) -> None:
    settings = settings_of(tokenizer_folder, source, tmp_path / "cache", processes=2)
    first, second = start(settings), start(settings)
    assert (first.wait(120), second.wait(120)) == (0, 0)
    (store,) = prepare(settings).stores
    assert bytes_of(store) == bytes_of(prepare(settings_of(tokenizer_folder, source, tmp_path / "u")).stores[0])


NOISY = """
import os
def read(row):
    print("a user's own words")
    os.system("echo from another process")
    return [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"] or "?"}]
"""


def test_what_a_users_format_prints_and_what_lies_in_the_folder_disturb_no_worker(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    here = tmp_path / "cwd"
    here.mkdir()
    (here / "random.py").write_text("raise SystemExit('taken for the library')")
    folder = tmp_path / "rows"
    folder.mkdir()
    write_rows(folder / "a.jsonl", 40)
    monkeypatch.setattr(room, "PART_BYTES", 1000)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(here)
    settings = settings_of(tokenizer_folder, folder, tmp_path / "cache", processes=2)
    task = settings.tasks["qa"].model_copy(update={"format": "noisy:read"})
    store = prepare(settings.model_copy(update={"tasks": {"qa": task}})).stores[0]
    assert (store.ledger.read, store.ledger.quarantined) == (40, 1), "all but the broken line"


CAPPED = """
import json, resource, sys
from weft.config.settings import Settings
from weft.data.prepare import prepare
prepare(Settings.model_validate(json.loads(sys.argv[1])))
with open("/proc/self/status") as status:
    print(next(line for line in status if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
def test_data_ten_times_the_memory_cap_is_prepared(tokenizer_folder: Path, tmp_path: Path) -> None:
    """What the process may take beyond its imports and the tokenizer is a tenth of the data."""
    folder = tmp_path / "rows"
    folder.mkdir()
    file = folder / "rows.jsonl"
    write_rows(file, 10)
    settings = settings_of(tokenizer_folder, folder, tmp_path / "cache", tokenizer="gigatoken", max_tokens=4096)
    before = _peak(settings, None)
    write_rows(tmp_path / "block.jsonl", 2000, words=1000, seed=3)
    block = (tmp_path / "block.jsonl").read_bytes()
    with file.open("wb") as out:
        while out.tell() < 280 * 2**20:
            out.write(block)
    cap = file.stat().st_size // 10
    assert _peak(settings, before + cap) - before < cap
    ledger = prepare(settings).stores[0].ledger
    assert ledger.read > 30_000
    assert ledger.used + ledger.quarantined + sum(ledger.dropped.values()) == ledger.read


def _peak(settings: Settings, cap: int | None) -> int:
    """Most memory that a preparation held, in bytes; fails beyond the cap (of data pages, which mapped files are not)."""

    def limit() -> None:
        if cap is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (cap + 64 * 2**20, cap + 64 * 2**20))

    text = json.dumps(settings.model_dump(mode="json", by_alias=True))
    done = subprocess.run(
        [sys.executable, "-c", CAPPED, text], capture_output=True, text=True, check=False, preexec_fn=limit
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout) * 1024


@pytest.mark.slow
def test_ray_makes_the_same_bytes(tokenizer_folder: Path, source: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
    )
    try:
        there = prepare(settings_of(tokenizer_folder, source, tmp_path / "ray", engine="ray", processes=2)).stores[0]
    finally:
        ray.shutdown()
    here = prepare(settings_of(tokenizer_folder, source, tmp_path / "here")).stores[0]
    assert here.num_parts > 8
    assert bytes_of(there) == bytes_of(here)
