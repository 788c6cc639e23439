"""Everything about this checkout in one command each; needs Python 3.11 or newer and nothing else.

    python3 dev.py quickstart    the main job, from raw files to a tuned model, with a table and a picture of what it did
    python3 dev.py test [...]    the tests (more words go to pytest)
    python3 dev.py lint          formatting, lint, types, layers
    python3 dev.py shell-path    prints the environment's folder of commands, for PATH

The first use makes the environment `.venv` beside this file, with the versions in constraints.txt; later uses find it ready. Which
build of torch comes is pip's configuration's business: see "CPU or GPU" in README.md.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
COMMANDS = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")


def ensure_environment() -> None:
    """Make the environment, or bring it up to date, unless it is already what the project's files ask for."""
    asked = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    stamp, wanted = ENVIRONMENT / "made-for", hashlib.sha256(asked).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    if not COMMANDS.is_dir():
        print(f"making the environment {ENVIRONMENT} (a few minutes, once)", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    pip = [str(COMMANDS / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    print(f"installing {torch}", flush=True)
    _run([*pip, torch])  # alone and first, so that nothing else decides on its build
    print("installing weft and its tools", flush=True)
    _run([*pip, "-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}[dev]"])
    stamp.write_text(wanted)


def _run(command: list[str], **variables: str) -> None:
    code = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=False).returncode
    if code:
        sys.exit(code)


def quickstart() -> None:
    _run([str(COMMANDS / "python"), "examples/quickstart/run.py", *sys.argv[2:]])


def test() -> None:
    more = sys.argv[2:] or ["-n", "auto"]
    _run([str(COMMANDS / "python"), "-m", "pytest", *more], OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")


def lint() -> None:
    places = ["src", "tests", "benchmarks", "examples", "experiments", "dev.py"]
    _run([str(COMMANDS / "ruff"), "format", "--check", *places])
    _run([str(COMMANDS / "ruff"), "check", *places])
    _run([str(COMMANDS / "mypy")])
    _run([str(COMMANDS / "lint-imports")])


def shell_path() -> None:
    print(COMMANDS)


VERBS = {"quickstart": quickstart, "test": test, "lint": lint, "shell-path": shell_path}


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  (said before anything fails on it)
        sys.exit(f"weft needs Python 3.11 or newer; this is {sys.version.split()[0]}. Run it as: python3.11 dev.py …")
    verb = VERBS.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if verb is None:
        sys.exit(__doc__)
    ensure_environment()
    verb()


if __name__ == "__main__":
    main()
