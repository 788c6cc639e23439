"""`weft chat MODEL|RUN`: a conversation on the terminal, or on piped lines, each a turn."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from weft.cli.verbs._decoding import add_decoding, add_device, add_model, decoding_from, open_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from weft.generation.chat import ChatSession

SUMMARY = "talk to a model"

_HELP = """/reset          begin anew, with the same system message
/system [TEXT]  begin anew with another system message, or none
/again          answer the last turn again (another answer where the temperature is above 0)
/exit           leave; so does Ctrl-D. Ctrl-C ends an answer"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    add_decoding(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    from weft.generation.chat import ChatSession

    decoding = decoding_from(args)
    loaded = open_from(args)
    session = ChatSession(loaded, args.system, decoding, notify=lambda text: print(f"({text})", file=sys.stderr))
    if sys.stdin.isatty():
        import readline  # noqa: F401  # line editing and history for input()

        print(f"{loaded.folder}, template {loaded.template.name}. /help shows the commands.", file=sys.stderr)
    for line in _turns():
        if not _turn(session, line.rstrip("\n"), args):
            break
    return 0


def _turns() -> Iterator[str]:
    """The user's turns until the end of the input; Ctrl-C at the prompt clears the line."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            print("\n(/exit or Ctrl-D leaves)", file=sys.stderr)
        except EOFError:
            print()
            return


def _turn(session: ChatSession, line: str, args: argparse.Namespace) -> bool:
    """Do one line; False ends the conversation. An error costs the turn, not the conversation."""
    from weft.errors import DataError, TemplateError

    command, _, rest = line.strip().partition(" ")
    if command == "/exit":
        return False
    if command == "/help":
        print(_HELP)
    elif command in ("/reset", "/system"):
        if command == "/system":
            args.system = rest.strip() or None
        session.reset(args.system)
        print("(a new conversation)", file=sys.stderr)
    elif command.startswith("/") and command != "/again" and command[1:].isalpha():
        print(f"(there is no {command}; /help shows the commands)", file=sys.stderr)
    elif command:
        try:
            _show(session, session.again() if command == "/again" else session.ask(line))
        except (DataError, TemplateError) as error:
            print(f"({error})", file=sys.stderr)
    return True


def _show(session: ChatSession, pieces: Iterator[str]) -> None:
    from contextlib import closing

    with closing(pieces):  # type: ignore[type-var]
        try:
            for piece in pieces:
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            pass
    print(flush=True)
    if session.stopped == "length":
        print("(cut off: --max-new-tokens allows more)", file=sys.stderr)
