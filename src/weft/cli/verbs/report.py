"""`weft report RUN…`: what one or several runs came to, on one page."""

from __future__ import annotations

import argparse

SUMMARY = "write what runs came to into one HTML file: curves, weights, interference, comparison"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder; several are set side by side")
    parser.add_argument(
        "-o", "--output", default="report.html", metavar="HTML", help="the file to write (default: report.html)"
    )


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from weft import api

    place = Path(args.output)
    text = api.run_report(*args.runs)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, "utf-8")
    print(f"{place}: {len(text.encode()) / 2**20:.1f} MiB; open it in a browser")
    return 0
