"""The main job, end to end: prepare, train with LoRA, validate per task, merge, answer prompts; then say what happened.

Run it through `python3 dev.py quickstart`. It makes everything anew in `runs/quickstart` and `runs/quickstart-merged`.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import torch

import weft
from weft.cli.progress import Console
from weft.cli.tables import print_table
from weft.evaluation.tasks import TaskScore
from weft.training.run import RunResult

HERE = Path("examples/quickstart")
SETTINGS = HERE / "settings.yaml"
HELD_OUT = HERE / "held_out"
RUN = Path("runs/quickstart")
MERGED = Path("runs/quickstart-merged")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=40, help="held-out prompts a task (default: 40)")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings that go before those of settings.yaml")
    args = parser.parse_args()
    started = time.monotonic()
    console = Console()
    settings = weft.settings(SETTINGS, *args.overrides)
    torch.set_num_threads(settings.engine.threads or 1)  # for the answers too
    for folder in (RUN, MERGED):  # the quickstart's own two, and nothing else
        shutil.rmtree(folder, ignore_errors=True)

    say("1. Prepare: raw files to tokens, with a proof of every mask")
    checked = weft.check(settings, progress=console)
    for check in checked.checks:
        print(f"   {'ok' if check.ok else 'FAIL'}  {check.name} ({check.detail})")
    if not checked.ok:
        raise SystemExit(1)

    say("2. The base model, before: held-out prompts it has never seen")
    before = weft.evaluate(settings.model.base, settings, held_out=HELD_OUT, max_prompts=args.prompts, progress=console)

    say("3. Train: LoRA on all tasks at once, each with the same share of every step")
    run = weft.train(settings, progress=console)

    say("4. Merge the adapter into the base; published only if both give the same tokens")
    report = weft.merge(RUN, MERGED)
    print(f"   {report.tokens} greedy tokens of {report.prompts} prompts agree")

    say("5. The merged model on the same held-out prompts")
    after = weft.evaluate(MERGED, settings, held_out=HELD_OUT, max_prompts=args.prompts, progress=console)
    console.close()

    show_answers(settings)
    show_table(checked, before, run, after)
    print(f"Curves: {run.folder / 'curves.png'}    All of it took {time.monotonic() - started:.0f} s.\n")
    print("Go on with (commands lie in the folder that `python3 dev.py shell-path` prints):")
    print(f"   weft chat {MERGED}")
    print(f"   weft data show {SETTINGS} --task sql -n 3")
    print(f"   weft train {SETTINGS} optimizer.lr=1e-3 output=runs/mine")
    print("   weft recipes list")


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def show_answers(settings: weft.Settings) -> None:
    """One held-out prompt of each task, what was asked and what the merged model says."""
    from weft.evaluation.held_out import held_out_questions

    questions = held_out_questions(HELD_OUT, list(settings.tasks), 1)
    asked = [(task, found[0]) for task, found in questions.items() if found]
    answers = weft.generate(MERGED, [question.messages for _, question in asked])
    print()
    for (task, question), answer in zip(asked, answers, strict=True):
        verdict = "" if answer.text == question.expected else f"   (expected: {question.expected})"
        print(f"   [{task}] {question.messages[-1].content}\n      → {answer.text}{verdict}")
    print()


def show_table(checked: weft.Checked, before: list[TaskScore], run: RunResult, after: list[TaskScore]) -> None:
    rows = []
    for store, old, new in zip(checked.prepared.stores, before, after, strict=True):
        losses = f"{run.losses_before[store.task]:.3f} → {run.losses_after[store.task]:.3f}"
        matches = f"{old.exact_match or 0:.0%} → {new.exact_match or 0:.0%}"
        rows.append(
            [store.task, store.ledger.format, f"{len(store)}", f"{store.ledger.trained_tokens}", losses, matches]
        )
    headings = ["task", "format", "rows", "trained tokens", "validation loss", "exact match"]
    print_table("Quickstart: five tasks, one model", headings, rows, text_columns=2)


if __name__ == "__main__":
    main()
