"""`weft settings`: check a settings file and print it with every default filled in."""

from __future__ import annotations

import argparse

SUMMARY = "check a settings file and print it resolved, or print the reference of all settings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="a YAML file, or an MFTCoder training JSON")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings that go before the file's")
    parser.add_argument("--reference", action="store_true", help="print every setting with its default and meaning")
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    from weft import api
    from weft.config.load import to_yaml
    from weft.config.reference import reference

    if args.reference == bool(args.file):
        args.usage_error("name either a settings FILE or --reference")
    print(reference() if args.reference else to_yaml(api.settings(args.file, *args.overrides)), end="")
    return 0
