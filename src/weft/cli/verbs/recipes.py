"""`weft recipes`: the settings files that ship with weft."""

from __future__ import annotations

import argparse

SUMMARY = "list, show or copy the settings files that ship with weft"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|copy")
    listing = actions.add_parser("list", help="name the recipes and what they are for")
    listing.add_argument(
        "pattern", nargs="?", metavar="PATTERN", help="a part of the name, or a pattern such as 'lora*'"
    )
    show = actions.add_parser("show", help="print a recipe")
    show.add_argument("name", metavar="NAME")
    copy = actions.add_parser("copy", help="copy a recipe into a folder; nothing is overwritten")
    copy.add_argument("name", metavar="NAME")
    copy.add_argument("directory", nargs="?", default=".", metavar="DIR")


def run(args: argparse.Namespace) -> int:
    from weft.config import recipes
    from weft.errors import ConfigError

    if args.action == "show":
        print(recipes.text(args.name), end="")
    elif args.action == "copy":
        print(recipes.copy(args.name, args.directory))
    else:
        found = recipes.names(args.pattern)
        if not found:
            raise ConfigError(f"no recipe matches '{args.pattern}'; the recipes are {', '.join(recipes.names())}")
        width = max(map(len, found))
        for name in found:
            print(f"{name:<{width}}  {recipes.summary(name)}")
    return 0
