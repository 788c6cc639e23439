"""The `weft` command: finds the verb, runs it, and turns errors into one clear message and an exit code.

A verb is one file in `verbs/`, found by its name (an underscore becomes a dash). To add one, write a file with

    SUMMARY = "one line for weft --help"
    def add_arguments(parser: argparse.ArgumentParser) -> None: ...
    def run(args: argparse.Namespace) -> int: ...        # the exit code

that imports nothing but the standard library at its top, and its room inside `run`: `weft --help` reads every SUMMARY
and must stay fast. A verb with sub-verbs makes its own subparsers in `add_arguments`. Verbs print; everything below
them logs, and the log goes to standard error. Exit codes: 0, those of weft.errors, 2 for a wrong command line, 70 for a
bug, 130 for Ctrl-C, 141 for a closed pipe.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

from weft.cli import verbs
from weft.errors import WeftError
from weft.log import logger
from weft.version import __version__

_USAGE, _BUG, _INTERRUPTED, _PIPE_CLOSED = 2, 70, 130, 141


class Verb(Protocol):
    """What a file in `verbs/` offers."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (without the program's name) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--debug" not in arguments:  # what libraries say to one another about their next versions
        warnings.simplefilter("ignore", FutureWarning)
    try:
        with _log_to_stderr():
            code = _run(arguments)
            sys.stdout.flush()
            return code
    except SystemExit as stop:  # argparse's way out, after --help or a wrong command line
        return _say(stop.code, 1) if isinstance(stop.code, str) else int(stop.code or 0)
    except BrokenPipeError:
        # what is still in the buffer must not raise again while Python shuts down
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return _say("interrupted", _INTERRUPTED)
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _report(error)


def _report(error: Exception) -> int:
    """Print an error as its kind asks for, and return the exit code."""
    if isinstance(error, WeftError):
        return _say(_error_text(str(error)), error.exit_code)
    if isinstance(error, OSError):  # a full disk or a folder without rights is no bug of ours
        return _say(_error_text(str(error)), WeftError.exit_code)
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return _say(f"error: {what}\nThis is a bug in weft; run again with --debug, and report what it prints.", _BUG)


def verb_names() -> list[str]:
    """Every verb, without importing any."""
    return sorted(
        found.name.replace("_", "-") for found in pkgutil.iter_modules(verbs.__path__) if found.name[0] != "_"
    )


def _run(arguments: Sequence[str]) -> int:
    parser = _parser()
    own = [argument for argument in arguments if argument != "--debug"]
    if not own:
        parser.print_help(sys.stderr)
        return _USAGE
    if own[0].startswith("-"):
        parser.parse_args(own)
        parser.error(f"name a verb before {own[0]}")
    name, *rest = own
    known = verb_names()
    if name not in known:
        return _say(f"error: {_unknown(name, known)}", _USAGE)
    verb = _load(name)
    verb_parser = argparse.ArgumentParser(prog=f"weft {name}", description=verb.SUMMARY)
    verb_parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verb.add_arguments(verb_parser)
    return verb.run(verb_parser.parse_args(rest))


def _parser() -> argparse.ArgumentParser:
    parser = _HelpWithVerbs(
        prog="weft",
        usage="weft VERB … [--debug]\n       weft VERB --help",
        description="Fine-tune one language model on many tasks at once, exactly balanced.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"weft {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


class _HelpWithVerbs(argparse.ArgumentParser):
    """Reads the verbs' summaries only when its help is wanted."""

    def format_help(self) -> str:
        names = verb_names()
        width = max(map(len, names), default=0)
        self.epilog = "verbs:\n" + "\n".join(f"  {name:<{width}}  {_load(name).SUMMARY}" for name in names)
        return super().format_help()


def _load(name: str) -> Verb:
    return cast(Verb, importlib.import_module(f"{verbs.__name__}.{name.replace('-', '_')}"))


def _unknown(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"; did you mean '{found[0]}'?" if found else "."
    if "train" in known and name.endswith((".yaml", ".yml", ".json")):
        hint = f"; did you mean 'weft train {name}'?"
    return f"there is no verb '{name}'{hint} The verbs are {', '.join(known)}."


def _error_text(message: str) -> str:
    lines = message.splitlines() or ["unknown"]
    return f"error: {lines[0]}" if len(lines) == 1 else "\n  ".join(["error:", *lines])


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


class _Plain(logging.Formatter):
    """Messages as they are; from a warning up, with the level before them."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


if __name__ == "__main__":
    sys.exit(main())
