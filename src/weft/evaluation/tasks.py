"""How good a model is at each task: the validation loss that training would write, and how often its greedy answer is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from weft.config.settings import Settings
from weft.data.about import read_about
from weft.data.plan import make_plan
from weft.data.prepare import Prepared, prepare
from weft.errors import ModelError
from weft.evaluation.held_out import Question, held_out_questions, validation_questions
from weft.generation.batch import generate
from weft.generation.decoding import Decoding
from weft.generation.model import Loaded, load_tokenizer, open_model
from weft.losses.nll import linear_nll
from weft.models.load import base_of, compute_dtype, register_attention
from weft.models.objective import Objective, self_test
from weft.training.engines.local import LocalEngine
from weft.training.evaluate import validate
from weft.training.step import Totals
from weft.types import Message, Progress, ProgressHook, silent

_MARGIN_TOKENS = 16


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One task. `loss` is the mean nll per trained token over all validation rows; `exact_match` the share of `prompts` whose greedy
    answer is the expected one but for white space around it. None: there was nothing to measure."""

    task: str
    rows: int
    trained_tokens: int | float
    loss: float | None
    exact_match: float | None
    prompts: int


def evaluate(
    path: str | Path,
    settings: Settings,
    max_prompts: int = 100,
    held_out: Path | None = None,
    base: str | None = None,
    batch_size: int = 16,
    progress: ProgressHook = silent,
) -> list[TaskScore]:
    """Score a run, an adapter or a model on the tasks of `settings` (resolved), on their validation rows.

    The model is shown the template it was trained with; a folder that names none is shown that of the settings. `held_out` is a folder
    of `<task>.jsonl` files whose questions replace those of the validation rows.
    """
    loaded = open_model(path, settings.engine.device, settings.model.dtype, base, settings.template)
    settings = _as_shown_to(loaded, settings)
    prepared = prepare(settings, progress)
    progress(Progress("validate", 0, 1))
    totals = validation_totals(loaded, settings, prepared)
    progress(Progress("validate", 1, 1))
    questions = (
        held_out_questions(held_out, settings.tasks, max_prompts)
        if held_out
        else {store.task: validation_questions(settings, store, max_prompts) for store in prepared.stores}
    )
    scores = []
    for k, store in enumerate(prepared.stores):
        asked = questions.get(store.task, [])
        rows = len(store.split("validation", settings.data.validation, settings.data.test))
        right = sum(exact_matches(loaded, asked, batch_size, progress, store.task))
        share = right / len(asked) if asked else None
        scores.append(TaskScore(store.task, rows, totals.tokens(k), totals.mean_nll(k), share, len(asked)))
    return scores


def _as_shown_to(loaded: Loaded, settings: Settings) -> Settings:
    """The settings with the model's own tokenizer and template, so that prompts and losses are its own."""
    said = read_about(loaded.folder)
    tokenizer = load_tokenizer(loaded.folder, loaded.base).folder
    return settings.model_copy(
        update={
            "model": settings.model.model_copy(update={"base": str(tokenizer)}),
            "template": said.template if said else settings.template,
        }
    )


def validation_totals(loaded: Loaded, settings: Settings, prepared: Prepared) -> Totals:
    """Each task's sums over its validation rows, by the very way training takes them."""
    base = base_of(loaded.model)
    rows = base.get_input_embeddings().weight.shape[0]
    if prepared.tokenizer.vocab_size > rows:
        raise ModelError(
            f"{loaded.folder}: the tokenizer has {prepared.tokenizer.vocab_size} tokens, the model's embedding only {rows} rows"
        )
    plan = make_plan(settings, prepared)
    dtype = compute_dtype(settings.model, loaded.device)
    weight_K = np.array([settings.tasks[task].weight for task in prepared.tasks])
    before, attention = base.config._attn_implementation, register_attention(settings.model.attention)
    base.set_attn_implementation(attention)
    try:
        objective = Objective(loaded.model, linear_nll).eval()
        self_test(objective, attention, tolerance=2e-3 if dtype == torch.float32 else 0.25)
        return validate(plan, settings, LocalEngine(loaded.device), objective, dtype, weight_K)
    finally:
        base.set_attn_implementation(before)


def exact_matches(
    loaded: Loaded, questions: Sequence[Question], batch_size: int = 16, progress: ProgressHook = silent, task: str = ""
) -> list[bool]:
    """Whether the greedy answer to each question is the expected one, white space around it aside."""
    if not questions:
        return []
    # an answer that is longer than the longest expected one is wrong: there is no need to see its end
    longest = max(
        len(loaded.tokenizer.backend.encode(question.expected, add_special_tokens=False).ids) for question in questions
    )
    decoding = Decoding(max_new_tokens=longest + _MARGIN_TOKENS, batch_size=batch_size)
    conversations: list[Sequence[Message]] = [question.messages for question in questions]
    answers = generate(
        loaded, conversations, decoding, lambda p: progress(Progress(f"answer {task}".strip(), p.done, p.total))
    )
    return [
        answer.text.strip() == question.expected.strip() for answer, question in zip(answers, questions, strict=True)
    ]
