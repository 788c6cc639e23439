#!/usr/bin/env python3
"""What preparing data costs: weft, the bare limit of the tokenizer library, TRL, LLaMA-Factory, ms-swift.

    python benchmarks/prepare.py --install-peers
    python benchmarks/prepare.py --shared ../shared --tokenizer qwen --json result.json

The same conversations, the same ChatML text; answers and their stop token are trained; best-fit packed into rows of 2048; the
result stored. First all contenders prepare a part of the rows, and the ids and masks of every row are compared; where a
difference can't be explained, nothing is timed. Then every contender runs as a process of its own, in turn (A B C A B C …), with
one thread. CPU seconds are of the preparation alone, all processes together; imports are told apart ("whole").

This process imports nothing big: it only starts the others.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE / "prepare_peers"
PYTHONS = {
    "weft": Path(sys.executable),
    "peers": HERE / ".venv-peers" / "bin" / "python",
    "llamafactory": HERE / ".venv-llamafactory" / "bin" / "python",
    "swift": HERE / ".venv-swift" / "bin" / "python",
}
PACKAGES = (
    "tokenizers",
    "gigatoken",
    "pyarrow",
    "datasets",
    "transformers",
    "trl",
    "llamafactory",
    "ms_swift",
    "torch",
)
AGAIN = "-again"


@dataclass(frozen=True)
class Contender:
    """Who prepares, and where. One whose name ends in -again starts once more where the one before has been."""

    name: str
    script: str
    home: str = "weft"
    about: str = ""
    makes_mask: bool = True

    @property
    def folder(self) -> str:
        """Where it stores; the second start finds what the first one stored."""
        return self.name.removesuffix(AGAIN)


CONTENDERS = (
    Contender("limit", "limit.py", about="tokenizers' encode_batch_fast on rendered text", makes_mask=False),
    Contender("limit-offsets", "limit.py", about="tokenizers' encode_batch on rendered text", makes_mask=False),
    Contender("limit-gigatoken", "limit.py", about="gigatoken's encode_batch on rendered text", makes_mask=False),
    Contender("weft", "weft_run.py", about="data.tokenizer: auto"),
    Contender("weft-again", "weft_run.py", about="second start"),
    Contender("weft-tokenizers", "weft_run.py", about="data.tokenizer: tokenizers"),
    Contender("weft-jinja", "weft_run.py", about="the chat template of the tokenizer's folder"),
    Contender("weft-2", "weft_run.py", about="data.processes: 2"),
    Contender("trl", "trl_run.py", "peers", about="SFTTrainer, assistant_only_loss, packing bfd"),
    Contender("trl-again", "trl_run.py", "peers", about="second start"),
    Contender("llamafactory", "llamafactory_run.py", "llamafactory", about="template chatml, neat_packing"),
    Contender("llamafactory-again", "llamafactory_run.py", "llamafactory", about="second start"),
    Contender(
        "ms-swift", "swift_run.py", "swift", about="lengths, packing, every packed row read once; stores no tokens"
    ),
)


@dataclass
class Outcome:
    """All that was measured of a contender."""

    name: str
    status: str = "ok"
    runs: list[dict[str, Any]] = field(default_factory=list)
    """Of each repeat: seconds, memory, counts."""
    checked: dict[str, Any] | None = None
    """The comparison's verdict on a part of the rows, and on all of them."""
    checked_all: dict[str, Any] | None = None

    def median(self, figure: str) -> float | None:
        """Over the repeats."""
        return statistics.median(run[figure] for run in self.runs) if self.runs else None


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    names = ", ".join(contender.name for contender in CONTENDERS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder with data/ and tokenizers/ (default: ../shared if there)")
    parser.add_argument("--made", action="store_true", help="made-up rows and a tokenizer trained on them instead")
    parser.add_argument("--tokenizer", help="qwen or llama2 of the shared folder, or any folder with tokenizer.json")
    parser.add_argument("--rows", type=int, default=72_000)
    parser.add_argument("--check-rows", type=int, default=5000, help="rows of the comparison before anything is timed")
    parser.add_argument("--max-tokens", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each contender")
    parser.add_argument("--only", help=f"names, with commas between; of {names}")
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--install-peers", action="store_true", help="make or reuse the peers' environments first")
    args = parser.parse_args()
    if min(args.rows, args.check_rows, args.repeats) < 1:
        parser.error("--rows, --check-rows and --repeats are at least 1")
    known = {contender.name for contender in CONTENDERS}
    wanted = set(args.only.split(",")) if args.only else known
    if wanted - known:
        parser.error(f"--only: no {', '.join(sorted(wanted - known))} here; there are {names}")
    args.only = wanted | {name.removesuffix(AGAIN) for name in wanted} | {"weft"}
    default = HERE.parent.parent / "shared"
    if args.made:
        args.shared = None
    elif args.shared is None and (default / "data").is_dir():
        args.shared = default
    if args.shared and not (args.shared / "data").is_dir():
        parser.error(f"--shared: there is no folder {args.shared / 'data'}")
    args.tokenizer = args.tokenizer or ("qwen" if args.shared else None)
    return args


def call(command: list[str | Path], log: Path, sample: Callable[[int], None] | None = None) -> str | None:
    """Run a child with one thread and nothing from the network; gives the last line of its log where it failed."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(log.parent / "hf-home"),
        "HF_DATASETS_CACHE": str(log.parent / "datasets"),
        "MODELSCOPE_CACHE": str(log.parent / "modelscope"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    with log.open("w") as stream:
        child = subprocess.Popen([str(part) for part in command], stdout=stream, stderr=stream, env=environment)
        while child.poll() is None:
            if sample:
                sample(child.pid)
            time.sleep(0.05)
    if child.returncode == 0:
        return None
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"exit {child.returncode}: {lines[-1] if lines else 'no output'}"


def descendants_mb(pid: int) -> float:
    """Memory of all processes below one, shared pages counted once (PSS)."""
    found = 0.0
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(number) for number in file.read_text().split()]
        except OSError:
            continue
        for child in children:
            try:
                rollup = Path(f"/proc/{child}/smaps_rollup").read_text()
            except OSError:
                continue
            found += next((int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0.0)
            found += descendants_mb(child)
    return found


def make_corpus(args: argparse.Namespace, work: Path, rows: int) -> dict[str, int]:
    """Rows, texts and tokenizer in a new folder; gives what is known of them."""
    work.mkdir(parents=True)
    command: list[str | Path] = [sys.executable, SCRIPTS / "corpus.py", "--work", work, "--rows", str(rows)]
    command += ["--max-tokens", str(args.max_tokens)]
    for option, value in (("--shared", args.shared), ("--tokenizer", args.tokenizer)):
        command += [option, value] if value else []
    fault = call(command, work / "corpus.log")
    if fault:
        raise SystemExit(f"making the rows failed: {fault}")
    return dict(json.loads((work / "about.json").read_text()))


def measure(contender: Contender, args: argparse.Namespace, work: Path, documents: bool) -> dict[str, Any] | str:
    """One process of a contender: its result, or what went wrong."""
    out = work / contender.folder
    if contender.name == contender.folder:
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(exist_ok=True)
    command: list[str | Path] = [PYTHONS[contender.home], SCRIPTS / contender.script, "--contender", contender.name]
    command += ["--work", work, "--out", out, "--max-tokens", str(args.max_tokens)]
    children = [0.0]
    fault = call(
        [*command, *(["--documents"] if documents else [])],
        out / f"{contender.name}.log",
        lambda pid: children.append(descendants_mb(pid)),
    )
    if fault:
        return fault
    result = dict(json.loads((out / "result.json").read_text()))
    result["peak_mb"] += max(children)
    return result


def run_all(
    outcomes: dict[str, Outcome], args: argparse.Namespace, work: Path, label: str, documents: bool
) -> dict[str, dict[str, Any]]:
    """Every contender once, in turn; gives the results, and notes who failed."""
    found = {}
    for contender in CONTENDERS:
        outcome = outcomes.get(contender.name)
        if outcome is None or outcome.status != "ok":
            continue
        result = measure(contender, args, work, documents)
        if isinstance(result, str):
            outcome.status = f"failed: {result}"
            say(f"  {label} {contender.name:18} {outcome.status}")
            continue
        if documents:  # kept apart: a second start writes into the same folder
            (work / contender.folder / "documents.npz").rename(work / f"{contender.name}.npz")
        found[contender.name] = result
        say(
            f"  {label} {contender.name:18} {result['cpu_seconds']:7.2f} CPU s  {result['wall_seconds']:7.2f} s  "
            f"{result['peak_mb']:6.0f} MB  {result['documents']} rows, {result['tokens']} tokens, "
            f"{result['trained_tokens']} trained, {result['packed_rows']} packed rows"
        )
    return found


def compare(outcomes: dict[str, Outcome], found: dict[str, Any], work: Path, figure: str) -> bool:
    """Compare what all made with weft's; whether every row is the same or its difference explained."""
    if "weft" not in found:
        return False
    names = ["weft", *(name for name in found if name != "weft")]
    out = work / "verdicts.json"
    files: list[str | Path] = [work / f"{name}.npz" for name in names]
    fault = call([sys.executable, SCRIPTS / "compare.py", "--work", work, "--out", out, *files], work / "compare.log")
    if fault:
        raise SystemExit(f"comparing failed: {fault}")
    good = True
    say(
        "  rows beside weft's     same   a token over an answer's border   trained behind stop   a space more   unexplained"
    )
    for name, verdict in zip(names, json.loads(out.read_text()), strict=True):
        setattr(outcomes[name], figure, verdict)
        good &= verdict["unexplained"] == 0 and (verdict["same"] == verdict["documents"] or not name.startswith("weft"))
        counts = [verdict[key] for key in ("same", "other_ids", "other_mask", "other_space", "unexplained")]
        say("  {:18} {:8} {:33} {:21} {:14} {:13}".format(name, *counts))
        for example in verdict["examples"]:
            say(f"      {example}")
    for file in files:
        Path(file).unlink()
    return good


def table(outcomes: dict[str, Outcome], rows: int, max_tokens: int) -> str:
    """The result for people."""

    def ratio(over: str, under: str) -> str:
        pair = [outcomes[name].median("cpu_seconds") if name in outcomes else None for name in (over, under)]
        return f"{pair[0] / pair[1]:.2f}" if pair[0] and pair[1] else "-"

    head = [
        "contender",
        "CPU s (min-max)",
        "/ limit",
        "TRL / it",
        "rows/CPU s",
        "wall s",
        "whole CPU s",
        "peak MB (before)",
        "full",
    ]
    lines = [head]
    for name, outcome in outcomes.items():
        if outcome.status != "ok" or not outcome.runs:
            lines.append([name, outcome.status, *["-"] * (len(head) - 2)])
            continue
        cpus = [run["cpu_seconds"] for run in outcome.runs]
        last = outcome.runs[-1]
        middle = statistics.median(cpus)
        digits = 3 if middle < 0.5 else 2
        lines.append(
            [
                name,
                f"{middle:.{digits}f} ({min(cpus):.{digits}f}-{max(cpus):.{digits}f})",
                ratio(name, "limit"),
                ratio("trl", name),
                f"{rows / middle:.0f}",
                f"{outcome.median('wall_seconds'):.2f}",
                f"{outcome.median('whole_cpu_seconds'):.1f}",
                f"{outcome.median('peak_mb'):.0f} ({outcome.median('start_mb'):.0f})",
                f"{last['tokens'] / last['packed_rows'] / max_tokens:.2%}" if last["packed_rows"] else "-",
            ]
        )
    widths = [max(len(row[i]) for row in lines) for i in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


def versions(python: Path) -> dict[str, str]:
    """The versions of what an environment has."""
    program = (
        "import json, sys, importlib.metadata as m\n"
        "have = {d.metadata['Name']: d.version for d in m.distributions()}\n"
        "print(json.dumps({n: have[n] for n in sys.argv[1:] if n in have}))"
    )
    done = subprocess.run([str(python), "-c", program, *PACKAGES], capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def machine() -> str:
    """One line about the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (
        f"{os.cpu_count()} x {names[0] if names else platform.processor()}, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def say(line: str) -> None:
    """Progress, at once."""
    print(line, flush=True)


def check_and_time(outcomes: dict[str, Outcome], args: argparse.Namespace, work: Path) -> tuple[bool, dict[str, int]]:
    """The comparison, then all repeats; whether all contenders made the same, and what is known of the rows."""
    small = work / "check"
    about = make_corpus(args, small, min(args.rows, args.check_rows))
    say(f"check: {about['rows']} rows, {about['tokens']} tokens")
    same = compare(outcomes, run_all(outcomes, args, small, "check", True), small, "checked")
    shutil.rmtree(small)
    if not same:
        say("not the same: nothing was timed")
        return False, about
    full = work / "full"
    about = make_corpus(args, full, args.rows)
    say(
        f"rows: {about['rows']} ({about['multiturn']} of several turns, {about['of_two_rows']} made of two rows), "
        f"{about['bytes'] / 1e6:.1f} MB, {about['tokens']} tokens, the longest {about['longest']}"
    )
    time.sleep(2)  # files at rest: weft remembers digests only of those
    for repeat in range(args.repeats):
        found = run_all(outcomes, args, full, f"{repeat + 1}/{args.repeats}", repeat == 0)
        for name, result in found.items():
            outcomes[name].runs.append(result)
        if repeat == 0:
            same = compare(outcomes, found, full, "checked_all")
    return same, about


def main() -> int:
    """Check, measure, print; 1 where results differ or a contender failed."""
    args = parse_arguments()
    if args.install_peers:
        for name in ("peers", "llamafactory", "swift"):
            environment = {**os.environ, "PYTHON": sys.executable}
            if subprocess.run([str(HERE / "peers.sh"), name], check=False, env=environment).returncode:
                say(f"the environment of {name} could not be made")
    outcomes = {c.name: Outcome(c.name) for c in CONTENDERS if c.name in args.only}
    have = {home: versions(python) for home, python in PYTHONS.items() if python.is_file()}
    for contender in CONTENDERS:
        absent = contender.home not in have or (contender.name == "limit-gigatoken" and "gigatoken" not in have["weft"])
        if contender.name in outcomes and absent:
            outcomes[contender.name].status = "not installed (peers: --install-peers; gigatoken: pip install gigatoken)"
    with tempfile.TemporaryDirectory(prefix="weft-benchmark-") as name:
        same, rows = check_and_time(outcomes, args, Path(name))
    say(f"\n{table(outcomes, rows['rows'], args.max_tokens)}\n")
    about = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        **{f"{home}'s versions": ", ".join(f"{k} {v}" for k, v in found.items()) for home, found in have.items()},
    }
    for key, value in about.items():
        say(f"{key}: {value}")
    if args.json:
        options = {key: sorted(value) if isinstance(value, set) else value for key, value in vars(args).items()}
        measured = {**about, "rows": rows, "same": same, "arguments": options}
        measured["contenders"] = [asdict(outcome) for outcome in outcomes.values()]
        args.json.write_text(json.dumps(measured, indent=1, default=str) + "\n")
    failed = [outcome.name for outcome in outcomes.values() if outcome.status.startswith("failed")]
    return 0 if same and not failed else 1


if __name__ == "__main__":
    raise SystemExit(main())
