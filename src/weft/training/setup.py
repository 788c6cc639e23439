"""Building a run, or taking it up where it stopped: data, plan, engine, model, optimizer, state, in this order."""

from __future__ import annotations

import fcntl
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import yaml

from weft import balance, files
from weft.balance.method import TaskFacts
from weft.config.settings import Settings
from weft.data.forecast import missed_shares
from weft.data.mixture import stable_seed
from weft.data.plan import Plan, make_plan, start_plan
from weft.data.prepare import Prepared, prepare
from weft.errors import CheckpointError, ModelError
from weft.log import logger
from weft.losses.nll import linear_nll
from weft.losses.weighting import FORMULAS
from weft.models.adapters import add_adapter
from weft.models.load import base_of, compute_dtype, enable_checkpointing, load_model, register_attention
from weft.models.objective import Objective, self_test
from weft.training import checkpoint, engines, environment, identity
from weft.training.engines import Engine
from weft.training.events import Journal, TensorBoard
from weft.training.look import Looks, plan_looks
from weft.training.optim import build_optimizer
from weft.training.state import Run
from weft.types import ProgressHook

FEW_LOOKS = 10
"""Fewer looks at a task in a run are told: no slope comes of so few."""

_OURS = {
    "run.json",
    "run.json.part",
    "settings.yaml",
    "metrics.jsonl",
    "ledger.jsonl",
    "balance.jsonl",
    "environment.json",
    "checkpoints",
    "final",
    "curves.png",
    "tensorboard",
    ".lock",
}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """This process alone works in the folder; the lock ends with the process, however it ends."""
    _refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CheckpointError(
                f"{folder}: another process trains into this folder; wait for it, or set another output"
            ) from error
        yield
    finally:
        os.close(handle)


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"output: {folder} is a file, not a folder; set another output")
    if not folder.is_dir() or (folder / identity.FILE).is_file():
        return
    strangers = sorted(p.name for p in folder.iterdir() if p.name not in _OURS)
    if strangers:
        raise CheckpointError(
            f"output: {folder} holds something else ({', '.join(strangers[:5])}) and is no run of weft; nothing was touched. "
            "Set another output, or empty it yourself"
        )


def build(settings: Settings, engine: Engine, progress: ProgressHook) -> Run:
    """A run at its start or at its newest whole checkpoint. The caller holds the folder's lock (rank 0)."""
    folder = settings.output
    prepared = check_identity(settings, engine, progress)
    prepared.refuse_preferences()
    plan = make_plan(settings, prepared)
    if engine.rank == 0:
        for missed in missed_shares(plan) if settings.balance.act_on == "loss" else ():
            logger.warning("%s", missed)
        _write_settings(folder, settings)
        (folder / "checkpoints").mkdir(exist_ok=True)
        files.remove_leftovers(folder / "checkpoints")
        files.remove_leftovers(folder)
    engine.barrier()

    dtype = compute_dtype(settings.model, engine.device)
    objective = build_objective(settings, engine.device, dtype, prepared)
    optimizer = build_optimizer(objective, settings.optimizer)
    place = checkpoint.newest(folder / "checkpoints") if engine.rank == 0 else None
    engine.barrier()
    if engine.rank != 0:  # rank 0 has set broken ones aside
        place = checkpoint.newest(folder / "checkpoints")
    state = checkpoint.load(place, objective, optimizer) if place else checkpoint.Progress()
    weights = balance.build(settings, facts_of(plan))
    weights.load_state(state.balance)
    tokens_per_step = plan.mean_tokens_per_step
    looks = plan_looks(settings, plan, weights.method.wants, tokens_per_step)
    plan = start_plan(plan, weights.shares)
    last = state.step if place else -1
    main = engine.rank == 0
    if place:
        logger.info("going on at step %d of %d", state.step, plan.num_steps)
    if main:
        _tell_balance(settings, weights, looks, plan.num_steps)
        if not (folder / environment.FILE).is_file():
            files.write_json(folder / environment.FILE, environment.describe(engine.device, engine.ranks))
    return Run(
        settings=settings,
        folder=folder,
        tokenizer=prepared.tokenizer,
        plan=plan,
        engine=engine,
        objective=objective,
        module=engine.prepare(objective),
        optimizer=optimizer,
        balance=weights,
        looks=looks,
        told_weights=weights.record()["weights"] if place else None,
        dtype=dtype,
        state=state,
        metrics=Journal(folder / "metrics.jsonl", last) if main else None,
        ledger=Journal(folder / "ledger.jsonl", last) if main else None,
        balance_record=Journal(folder / "balance.jsonl", last) if main else None,
        tensorboard=TensorBoard(folder / "tensorboard", state.step)
        if main and "tensorboard" in settings.track
        else None,
    )


def facts_of(plan: Plan) -> TaskFacts:
    """What a balancing method is told of the tasks."""
    settings = plan.settings
    return TaskFacts(
        names=tuple(store.task for store in plan.stores),
        weight_K=np.array([settings.tasks[store.task].weight for store in plan.stores]),
        trained_K=np.array([trained_S.sum() for trained_S in plan.train_trained]),
        num_steps=plan.num_steps,
        act_on=settings.balance.act_on,
    )


def _tell_balance(settings: Settings, weights: balance.Balance, looks: Looks, num_steps: int) -> None:
    """The formula in use, and what it looks at."""
    method = settings.balance.method
    told = (
        f"balance: {method}: {weights.method.formula}, acting on {settings.balance.act_on}" if method != "fixed" else ""
    )
    told = told.replace("acting on both", "acting on loss and sampling")
    if looks.every:
        turns = f", {len(looks.turns)} in turn" if len(looks.turns) > 1 else ""
        told += f"; looks at {looks.rows} validation rows ({looks.tokens} tokens{turns}) every {looks.every} steps"
    each = looks.every * len(looks.turns)
    if looks.every and num_steps < FEW_LOOKS * each:
        logger.warning(
            "balance: in %d steps every task is looked at %d times after the start (every %d steps): too seldom for %s to act well; set "
            "balance.every: %d or less, at more cost, or balance.method: fixed",
            *(num_steps, num_steps // each, each, method, max(1, num_steps // (FEW_LOOKS * len(looks.turns)))),
        )
    formula = FORMULAS[settings.loss.weighting]
    if settings.loss.focal:
        formula += f", each nll times (1 - p) ** {settings.loss.focal:g}"
    logger.info("loss: %s: %s%s", settings.loss.weighting, formula, f"\n{told}" if told else "")


def build_objective(settings: Settings, device: torch.device, dtype: torch.dtype, prepared: Prepared) -> Objective:
    """The model as it is trained, proven to keep packed samples apart."""
    attention = register_attention(settings.model.attention)
    full = settings.adapter.kind == "none"
    base = load_model(settings.model.base, torch.float32 if full else dtype, device, attention)
    rows = base.get_input_embeddings().weight.shape[0]
    if prepared.tokenizer.vocab_size > rows:
        raise ModelError(
            f"model.base: {settings.model.base}: the tokenizer has {prepared.tokenizer.vocab_size} tokens, the model's embedding only "
            f"{rows} rows; resize the model's embedding first (model.resize_token_embeddings) and save it"
        )
    model = add_adapter(base, settings.adapter, settings.model.base, stable_seed(settings.seed, "adapter"))
    objective = Objective(model, linear_nll, functools.partial(linear_nll, focal=settings.loss.focal))
    self_test(objective, attention, tolerance=2e-3 if dtype == torch.float32 else 0.25)
    if settings.model.gradient_checkpointing:
        enable_checkpointing(base_of(model))
    return objective.train()


def check_identity(settings: Settings, engine: Engine, progress: ProgressHook, done: bool = False) -> Prepared:
    """The prepared data, once it is sure that the folder is new or holds this very run. `done`: the run has come to its end."""
    prepared = _prepare_once(settings, engine, progress)
    if engine.rank == 0:
        identity.check(settings.output, identity.describe(settings, prepared), done)
    return prepared


def _prepare_once(settings: Settings, engine: Engine, progress: ProgressHook) -> Prepared:
    """Rank 0 makes the stores, the others find them."""
    first = prepare(settings, progress) if engine.rank == 0 else None
    engine.barrier()
    return first or prepare(settings)


def _write_settings(folder: Path, settings: Settings) -> None:
    text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    temporary = folder / "settings.yaml.part"
    temporary.write_text(text, "utf-8")
    temporary.replace(folder / "settings.yaml")


def open_engine(settings: Settings) -> Engine:
    return engines.build(settings.engine)
