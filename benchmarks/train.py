#!/usr/bin/env python3
"""How fast a training step is, and how much memory it takes, beside a bare loop and beside other systems.

    python benchmarks/train.py --install-peers
    python benchmarks/train.py --data rows.json --tokenizer DIR --json result.json

A random Llama of 22.7 M parameters, LoRA on all linear layers, rows of 2048 tokens, fp32, one thread of a CPU. Every
contender sees the same samples and runs as a process of its own, in turn (A B C A B C …). First all must give the same
loss on the first step's samples. Then counts: useful tokens (attended, not padding) per CPU second over all steps but
the warm-up, and peak resident memory.

This process imports no torch and stays small: what a child has at its peak begins with what its parent had.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE / "train_peers"
PEERS = HERE / ".venv-peers" / "bin" / "python"
DEFAULT_DATA = HERE.parent / "examples" / "quickstart" / "data"
CAPACITY = 2048
TOLERANCE = 1e-4
PACKAGES = ("torch", "transformers", "peft", "trl", "weft")


@dataclass(frozen=True)
class Contender:
    """Who runs, and where."""

    name: str
    script: str
    peer: bool
    """Runs in the peers' environment."""
    same_steps: bool = True
    """Takes the same samples in the same steps, so that its losses must be the reference's after updates too."""

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return PEERS if self.peer else Path(sys.executable)


CONTENDERS = (
    Contender("bare", "bare.py", peer=False),
    Contender("weft", "weft_run.py", peer=False),
    Contender("hf-trainer", "hf_trainer.py", peer=True),
    Contender("trl-pack", "trl_sft.py", peer=True, same_steps=False),
    Contender("trl-padded", "trl_sft.py", peer=True),
)


@dataclass
class Outcome:
    """All that was measured of a contender."""

    name: str
    status: str = "ok"
    first_loss: float | None = None
    losses: list[list[float]] = field(default_factory=list)
    """Per repeat, of every step."""
    speeds: list[float] = field(default_factory=list)
    """Useful tokens per CPU second, one a repeat."""
    peaks_mb: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    """CPU seconds per wall second: well below 1 when others use the machine."""

    @property
    def speed(self) -> float | None:
        """The median over the repeats."""
        return statistics.median(self.speeds) if self.speeds else None

    @property
    def peak_mb(self) -> float | None:
        """The median over the repeats."""
        return statistics.median(self.peaks_mb) if self.peaks_mb else None


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Alpaca rows, a file or folder (default: quickstart's or made up)")
    parser.add_argument("--tokenizer", type=Path, help="folder with tokenizer.json (default: one trained on the rows)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each contender")
    parser.add_argument("--steps", type=int, default=2, help="measured steps of a measurement")
    parser.add_argument("--warmup", type=int, default=1, help="steps before them that are not measured")
    parser.add_argument("--tokens-per-step", type=int, default=2 * CAPACITY, help="about so many, in rows of 2048")
    parser.add_argument("--only", help="names, with commas between; of " + ", ".join(c.name for c in CONTENDERS))
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--install-peers", action="store_true", help="make or reuse benchmarks/.venv-peers first")
    args = parser.parse_args()
    if min(args.repeats, args.steps, args.warmup) < 1:
        parser.error("--repeats, --steps and --warmup are at least 1")
    known = {contender.name for contender in CONTENDERS}
    if unknown := set((args.only or "bare").split(",")) - known:
        parser.error(f"--only: no {', '.join(sorted(unknown))} here; there are {', '.join(sorted(known))}")
    for option in ("data", "tokenizer"):
        path = getattr(args, option)
        if path and not path.exists():
            parser.error(f"--{option}: {path} does not exist")
    return args


def call(command: list[str | Path], log: Path) -> str | None:
    """Run a child with one thread and nothing from the network; gives the last line of its log where it failed."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(log.parent / "hf-home"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    with log.open("w") as stream:
        words = [str(part) for part in command]
        code = subprocess.run(words, stdout=stream, stderr=stream, env=environment, check=False).returncode
    if code == 0:
        return None
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"exit {code}: {lines[-1] if lines else 'no output'}"


def prepare(args: argparse.Namespace, work: Path) -> dict[str, float]:
    """Make the model, the adapter's start and the steps; gives what is known of them."""
    data = args.data or (DEFAULT_DATA if DEFAULT_DATA.is_dir() else None)
    command: list[str | Path] = [sys.executable, SCRIPTS / "prepare.py", "--work", work]
    for option, value in (("--data", data), ("--tokenizer", args.tokenizer)):
        command += [option, value] if value else []
    command += ["--num-steps", str(args.warmup + args.steps), "--tokens-per-step", str(args.tokens_per_step)]
    fault = call([*command, "--capacity", str(CAPACITY)], work / "prepare.log")
    if fault:
        raise SystemExit(f"preparing failed: {fault}")
    return json.loads((work / "meta.json").read_text())


def measure(contender: Contender, args: argparse.Namespace, work: Path, mode: str, repeat: int = 0) -> dict | str:
    """One process of a contender: its result, or what went wrong."""
    out = work / f"{contender.name}-{mode}-{repeat}.json"
    command: list[str | Path] = [contender.python, SCRIPTS / contender.script, "--contender", contender.name]
    command += ["--work", work, "--mode", mode, "--steps", str(args.steps), "--warmup", str(args.warmup), "--out", out]
    fault = call(command, out.with_suffix(".log"))
    return fault or json.loads(out.read_text())


def check_losses(outcomes: dict[str, Outcome], args: argparse.Namespace, work: Path) -> bool:
    """Every contender's loss on the first step's samples, before any update; whether they agree."""
    able = [c for c in CONTENDERS if c.name in outcomes and outcomes[c.name].status == "ok"]
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        results = list(pool.map(lambda contender: measure(contender, args, work, "check"), able))
    for contender, result in zip(able, results, strict=True):
        outcome = outcomes[contender.name]
        if isinstance(result, str):
            outcome.status = f"failed: {result}"
        else:
            outcome.first_loss = result["losses"][0]
    losses = {name: o.first_loss for name, o in outcomes.items() if o.first_loss is not None}
    reference = losses.get("bare", next(iter(losses.values()), 0.0))
    equal = True
    for name, loss in losses.items():
        difference = abs(loss - reference)
        equal &= difference <= TOLERANCE
        verdict = "equal" if difference <= TOLERANCE else "DIFFERENT"
        say(f"  {name:11} {loss:.6f}   {verdict} ({difference:.1e} from the reference)")
    return equal


def time_all(outcomes: dict[str, Outcome], args: argparse.Namespace, work: Path) -> None:
    """All repeats, in turn."""
    for repeat in range(args.repeats):
        for contender in CONTENDERS:
            outcome = outcomes.get(contender.name)
            if outcome is None or outcome.status != "ok":
                continue
            result = measure(contender, args, work, "time", repeat)
            if isinstance(result, str):
                outcome.status = f"failed: {result}"
                continue
            outcome.losses.append(result["losses"])
            outcome.speeds.append(result["tokens"] / result["cpu_seconds"])
            outcome.peaks_mb.append(result["peak_mb"])
            outcome.busy.append(result["cpu_seconds"] / result["wall_seconds"])
            say(
                f"  {repeat + 1}/{args.repeats} {contender.name:11} {outcome.speeds[-1]:7.1f} tokens/CPU s"
                f"  {outcome.peaks_mb[-1]:6.0f} MB  ({result['tokens']} tokens, {result['cpu_seconds']:.1f} CPU s"
                f" in {result['wall_seconds']:.1f} s)"
            )


def compare_later_losses(outcomes: dict[str, Outcome]) -> bool:
    """Whether those that take the same steps agree in every step of every repeat; who doesn't loses its figures."""
    found = {c.name: outcomes[c.name].losses for c in CONTENDERS if c.same_steps and c.name in outcomes}
    same = {name: losses for name, losses in found.items() if losses}
    if "bare" not in same:
        return True
    reference, equal = same["bare"][0], True
    for name, losses in same.items():
        difference = max(abs(a - b) for repeat in losses for a, b in zip(reference, repeat, strict=True))
        say(f"  {name:11} {losses[-1][-1]:.6f} in the last step, at most {difference:.1e} from the reference in any")
        if difference > TOLERANCE:
            outcomes[name].status = f"failed: its losses differ from bare's by {difference:.1e}"
            equal = False
    return equal


def table(outcomes: dict[str, Outcome]) -> str:
    """The result for people."""

    def ratio(value: float | None, of: str, figure: str) -> str:
        base = getattr(outcomes[of], figure) if of in outcomes and outcomes[of].status == "ok" else None
        return f"{value / base:.2f}" if value and base else "-"

    speed, peak = "tokens/CPU s (min-max)", "peak MB (min-max)"
    head = ["contender", "first loss", speed, "/ bare", "/ TRL packed", peak, "/ TRL packed"]
    rows = [head]
    for name, o in outcomes.items():
        if o.status != "ok" or o.speed is None or o.peak_mb is None:
            rows.append([name, "-" if o.first_loss is None else f"{o.first_loss:.5f}", o.status, "-", "-", "-", "-"])
            continue
        rows.append(
            [
                name,
                f"{o.first_loss:.5f}",
                f"{o.speed:.0f} ({min(o.speeds):.0f}-{max(o.speeds):.0f})",
                ratio(o.speed, "bare", "speed"),
                ratio(o.speed, "trl-pack", "speed"),
                f"{o.peak_mb:.0f} ({min(o.peaks_mb):.0f}-{max(o.peaks_mb):.0f})",
                ratio(o.peak_mb, "trl-pack", "peak_mb"),
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def versions(python: Path) -> dict[str, str]:
    """The versions of what an environment has."""
    program = (
        "import json, sys, importlib.metadata as m\n"
        "have = {d.metadata['Name']: d.version for d in m.distributions()}\n"
        "print(json.dumps({n: have[n] for n in sys.argv[1:] if n in have}))"
    )
    done = subprocess.run([str(python), "-c", program, *PACKAGES], capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


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


def main() -> int:
    """Check, measure, print; 1 where losses differ or a contender failed."""
    args = parse_arguments()
    if args.install_peers:
        subprocess.run([str(HERE / "peers.sh")], check=True, env={**os.environ, "PYTHON": sys.executable})
    wanted = args.only.split(",") if args.only else [contender.name for contender in CONTENDERS]
    outcomes = {c.name: Outcome(c.name) for c in CONTENDERS if c.name in wanted}
    for contender in CONTENDERS:
        if contender.name in outcomes and not contender.python.is_file():
            outcomes[contender.name].status = "not installed (--install-peers)"
    about = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(Path(sys.executable)),
        "peer_versions": versions(PEERS) if PEERS.is_file() else {},
    }
    with tempfile.TemporaryDirectory(prefix="weft-benchmark-") as name:
        work = Path(name)
        meta = prepare(args, work)
        say(
            f"{meta['parameters'] / 1e6:.1f} M parameters; a step: {meta['samples_per_step']} samples, "
            f"{meta['tokens_per_step']:.0f} tokens ({100 * meta['trained_share']:.0f} % trained), "
            f"{meta['micro_batches_per_step']:.1f} rows of {CAPACITY}, "
            f"{100 * meta['fill']:.0f} % full; longest sample {meta['longest']}"
        )
        say("loss on the first step's samples, before any update:")
        equal = check_losses(outcomes, args, work)
        if not equal:
            say("the losses differ: nothing was timed")
        else:
            say(f"training, {args.warmup} + {args.steps} steps a run:")
            time_all(outcomes, args, work)
            say("losses after updates, for those that take the same steps:")
            equal = compare_later_losses(outcomes)
    say(f"\n{table(outcomes)}\n")
    for key, value in about.items():
        say(f"{key}: {', '.join(f'{k} {v}' for k, v in value.items()) if isinstance(value, dict) else value}")
    if args.json:
        measured = [asdict(outcome) for outcome in outcomes.values()]
        result = {**about, "steps": meta, "equal": equal, "arguments": vars(args), "contenders": measured}
        args.json.write_text(json.dumps(result, indent=1, default=str) + "\n")
    failed = [outcome.name for outcome in outcomes.values() if outcome.status.startswith("failed")]
    return 0 if equal and not failed else 1


if __name__ == "__main__":
    raise SystemExit(main())
