"""What a user can set, declared once. The text under each setting is its help and its documentation.

The sections are the rooms of the house; `Settings` is the whole file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from weft.config.balancing import balance_conflicts


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, strict=False)


class ModelSettings(Section):
    base: str
    """A folder in Hugging Face's layout, or the name of a model on the hub."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the weights while training; auto: bf16 on a GPU, fp32 on a CPU."""
    attention: str = "auto"
    """The attention backend; auto: per-document attention, which keeps packed samples apart on every supported model."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""


class AdapterSettings(Section):
    kind: Literal["none", "lora"] = "lora"
    """none trains all weights; lora trains low-rank updates (arXiv 2106.09685)."""
    rank: int = Field(16, ge=1)
    """Rank r of the update."""
    alpha: float = Field(32.0, gt=0, allow_inf_nan=False)
    """Scale of the update: alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    targets: str | list[str] = "all-linear"
    """Which modules get an adapter: all-linear (all but the head), or names."""


HUB = "hf:"
"""What a path begins with that names a dataset of the hub."""


class TaskSettings(Section):
    path: str | list[str]
    """A file, a folder with every data file below it, a dataset of the hub as hf:NAME, or a list of these."""
    split: str = "train"
    """The split of a dataset of the hub."""
    subset: str | None = None
    """The subset (configuration) of a dataset of the hub."""
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    """The task's w in the weightings `task` and `task_sample`."""
    epochs: float | None = Field(None, gt=0, allow_inf_nan=False)
    """How often this task's rows are seen; without it, as `mixture.epochs` says."""
    freeze_after: int | None = Field(None, ge=1)
    """As `validate.freeze_after`, for this task."""
    format: str = "auto"
    """How a row is read; auto looks at the rows and tells what it found. A name, or your own function as `module:attribute`."""
    columns: dict[Literal["system", "user", "assistant", "text"], str] = Field(default_factory=dict)
    """Which column of a row is what, e.g. {user: question, assistant: answer}."""
    system: str | None = None
    """A template for each row's system message, with columns in braces."""
    user: str | None = None
    """A template for each row's user message, e.g. "Translate to {lang}: {text}"."""
    assistant: str | None = None
    """A template for each row's answer."""
    schemas: str | None = None
    """Spider's tables.json, for rows that name a database by db_id."""
    sample_by: Literal["line", "paragraph", "document"] = "line"
    """What a row of a plain text file is: a line, what stands between blank lines, or the whole file."""
    preference: Literal["pairs", "chosen"] = "pairs"
    """Rows with a chosen and a rejected answer: keep both (to be trained on later), or imitate the chosen one."""

    @property
    def paths(self) -> list[str]:
        """All paths of the task."""
        return [self.path] if isinstance(self.path, str) else self.path

    train_on: Literal["all_answers", "last_answer"] = "all_answers"
    """Which assistant turns are trained; a message's own `train` or `weight` goes before this."""


class TemplateSettings(Section):
    name: str = "auto"
    """auto: the tokenizer's own chat template where it has one, else mftcoder. A name, or the path of a .jinja file."""
    markers: dict[Literal["system", "user", "assistant", "tool"], str] = Field(default_factory=dict)
    """Other role markers for a marker template, e.g. {user: "### Instruction:\\n"}."""
    system: str | None = None
    """A system message for conversations that have none."""


class DataSettings(Section):
    max_tokens: int | None = Field(None, ge=2)
    """The longest sample, in tokens; without it, 4096 or the model's own limit if that is less."""
    too_long: Literal["drop", "cut"] = "drop"
    """What becomes of a longer one: drop it, or cut its prompt from the front (an answer is never cut)."""
    packing: Literal["padding", "pack", "concat"] = "pack"
    """How samples are laid into rows: one a row, whole samples side by side, or one stream cut every max_tokens."""
    validation: float = Field(0.02, ge=0)
    """Below 1: the share of each task's rows kept for validation; else about so many rows a task. Chosen by a hash of the row."""
    test: float = Field(0.0, ge=0, lt=1)
    """The share of each task's rows that is used neither for training nor for validation."""
    processes: int = Field(1, ge=1)
    """Processes that prepare the data; the same bytes come of any number."""
    engine: Literal["local", "ray"] = "local"
    """Where the data is prepared: on this machine, or by Ray Data on a cluster whose machines see the same folders."""
    tokenizer: Literal["auto", "gigatoken", "tokenizers"] = "auto"
    """The library that makes ids; auto: gigatoken where it is installed and proven to give the same ids, else tokenizers."""
    contamination: list[str] = Field(default_factory=list)
    """Files of benchmarks whose texts must not be among the training rows; `weft data check` looks for them."""
    cache: Path | None = None
    """Where token stores lie; without it, `.weft-cache` beside the output folder."""
    max_bad_rows: float = Field(0.1, ge=0, le=1)
    """The share of a task's rows that may be unreadable before weft refuses to go on."""


MixBy = Literal["rows", "weight", "temperature", "trained_tokens"]
_BY_WEIGHTS = ("weight", "trained_tokens")


class StageSettings(Section):
    by: MixBy = "rows"
    """As `mixture.by`, for this stage."""
    epochs: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Passes over the mixture in this stage."""
    weights: dict[str, float] = Field(default_factory=dict)
    """As `mixture.weights`; a task without a weight, or with 0, is not drawn in this stage."""
    temperature: float = Field(2.0, ge=1, allow_inf_nan=False)
    """As `mixture.temperature`."""


class MixtureSettings(Section):
    by: MixBy = "rows"
    """How often a task is drawn: as often as it has rows, by `weights` as shares of the samples, by rows ** (1 / temperature), or by
    `weights` as shares of the trained tokens."""
    epochs: float = Field(3.0, gt=0, allow_inf_nan=False)
    """Passes over the mixture; one pass has as many samples (by: trained_tokens: as many trained tokens) as all tasks' training rows."""
    weights: dict[str, float] = Field(default_factory=dict)
    """For by: weight or trained_tokens, each task's share (any positive numbers)."""
    temperature: float = Field(2.0, ge=1, allow_inf_nan=False)
    """For by: temperature; 1 is proportional to size, large is even."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after so many optimizer steps."""
    stages: list[StageSettings] = Field(default_factory=list)
    """A curriculum: mixtures that follow one another, instead of `by`, `epochs`, `weights` and `temperature`."""


class BatchSettings(Section):
    tokens_per_step: int | None = Field(None, ge=1)
    """Tokens in one optimizer step over all processes; 65536 where neither this nor samples_per_step is set."""
    samples_per_step: int | None = Field(None, ge=1)
    """Samples in one optimizer step over all processes, instead of tokens_per_step."""
    tokens_per_micro_batch: int | None = Field(None, ge=1)
    """Tokens in one forward pass; a matter of memory only, never of the result. Without it: 8192, or max_tokens if that is more."""


class LossSettings(Section):
    weighting: Literal["token", "sample", "task", "task_sample"] = "task"
    """What counts the same in a step: every trained token, sample, task (by token mean), or task (by sample mean)."""
    focal: float = Field(0.0, ge=0, le=10)
    """γ of the focal loss: each token's nll times (1 - its probability) ** γ, so that hard tokens count more; 0: off (arXiv 1708.02002)."""


class BalanceSettings(Section):
    method: str = "fixed"
    """How the tasks' weights move while training; fixed: they stay as set, uniform: all are 1, the others: see docs/balance.md."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """The method's own settings; docs/balance.md names them."""
    act_on: Literal["loss", "sampling", "both"] = "loss"
    """What follows the weights: the loss, how often each task is drawn (stage by stage), or both."""
    every: int | None = Field(None, ge=1)
    """Look at validation rows every so many steps; without it, as often as costs about 2 % of the run."""
    rows: int = Field(8, ge=1)
    """How many validation rows of each task a look holds at most; always the same ones."""
    stage_steps: int | None = Field(None, ge=1)
    """With act_on: sampling or both, draw anew by the weights about every so many steps; without it, a twentieth of the run."""


class OptimizerSettings(Section):
    kind: Literal["adamw"] = "adamw"
    """AdamW (arXiv 1711.05101)."""
    lr: float = Field(2e-4, gt=0, le=10, allow_inf_nan=False)
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """The learning rate after the warm-up."""
    warmup: float = Field(0.03, ge=0, allow_inf_nan=False)
    """Linear warm-up: below 1 a share of all steps, else a number of steps."""
    min_lr: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Where cosine and linear end."""
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Decoupled weight decay, on matrices only."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the gradient's first and second moments."""
    eps: float = Field(1e-8, gt=0, allow_inf_nan=False)
    """AdamW's epsilon."""
    clip_norm: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Largest norm of the whole gradient; 0 never clips."""


class ValidateSettings(Section):
    every: int = Field(100, ge=1)
    """Validate all tasks every so many steps (and before the first and after the last)."""
    stop_after: int | None = Field(None, ge=1)
    """Stop when the validation loss has not improved so many times in a row."""
    freeze_after: int | None = Field(None, ge=1)
    """Freeze a task when its own validation loss has not improved so many times in a row: its rows are not spent, the others go on."""
    interference: bool = False
    """At each validation, measure the cosine similarity of the tasks' gradients, on the rows that `balance.rows` names."""


class SaveSettings(Section):
    every: int = Field(100, ge=1)
    """Save a checkpoint every so many steps."""
    keep: int = Field(3, ge=1)
    """How many of the newest checkpoints stay; the best by validation stays too."""
    final: Literal["last", "best", "best_macro", "best_worst"] = "last"
    """Which weights become the result: those after the last step, or those with the lowest validation loss, with the lowest mean of
    the tasks' losses, or with the lowest of their worst."""
    best_of_tasks: bool = False
    """Keep the checkpoint at which each task had its lowest validation loss, too."""


class EngineSettings(Section):
    kind: Literal["auto", "local", "ddp"] = "auto"
    """auto: local for one process, ddp for several."""
    processes: int = Field(1, ge=1)
    """Processes that weft starts on this machine; leave it at 1 under torchrun or accelerate launch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: a GPU where there is one."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of each process; without it, what torch chooses."""


def _as_path(value: Any) -> Any:
    return {"path": value} if isinstance(value, str | list) else value


def _as_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Settings(Section):
    """Everything that makes a run."""

    model: ModelSettings
    """The base model."""
    adapter: AdapterSettings = AdapterSettings()
    """What is trained."""
    tasks: dict[str, Annotated[TaskSettings, BeforeValidator(_as_path)]] = Field(min_length=1)
    """The tasks by name, each a path or a section of its own."""
    template: Annotated[TemplateSettings, BeforeValidator(_as_name)] = TemplateSettings()
    """How a conversation becomes text."""
    data: DataSettings = DataSettings()
    """How text becomes rows of tokens."""
    mixture: MixtureSettings = MixtureSettings()
    """How often each task is seen."""
    batch: BatchSettings = BatchSettings()
    """How large a step is, and how it is cut."""
    loss: LossSettings = LossSettings()
    """What counts the same."""
    balance: BalanceSettings = BalanceSettings()
    """How task weights move."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """How the weights learn."""
    validate_: ValidateSettings = Field(ValidateSettings(), alias="validate")
    """When to look at held-out rows."""
    save: SaveSettings = SaveSettings()
    """When to write checkpoints."""
    engine: EngineSettings = EngineSettings()
    """On what it runs."""
    track: list[Literal["tensorboard"]] = Field(default_factory=list)
    """Trackers beside metrics.jsonl."""
    output: Path
    """The run's folder."""
    seed: int = Field(17, ge=0, lt=2**63)
    """Decides the order of the data, the adapter's start and dropout."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, populate_by_name=True, serialize_by_alias=True
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        faults = list(_conflicts(self))
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def max_tokens(self) -> int:
        """The longest sample in tokens, with its default filled in (the model's own limit is the resolver's business)."""
        return self.data.max_tokens or 4096

    @property
    def tokens_per_micro_batch(self) -> int:
        """The capacity of one forward pass in tokens, with its default filled in."""
        return self.batch.tokens_per_micro_batch or max(8192, self.max_tokens)

    @property
    def tokens_per_step(self) -> int:
        """The capacity of one optimizer step in tokens, where samples_per_step does not decide."""
        return self.batch.tokens_per_step or max(65536, self.max_tokens)

    @property
    def cache(self) -> Path:
        """The folder of token stores."""
        return self.data.cache or self.output.parent / ".weft-cache"


def _conflicts(settings: Settings) -> list[str]:
    """Every combination of settings that can't be honoured together, as `section.setting: message`."""
    faults = []
    batch, data = settings.batch, settings.data
    if batch.tokens_per_step and batch.samples_per_step:
        faults.append("batch.samples_per_step: is set beside tokens_per_step; keep one of the two")
    if batch.tokens_per_step and data.max_tokens and batch.tokens_per_step < data.max_tokens:
        faults.append(
            f"batch.tokens_per_step: {batch.tokens_per_step} is less than data.max_tokens {data.max_tokens}; "
            "a step must hold the longest sample: raise it or lower data.max_tokens"
        )
    if batch.tokens_per_micro_batch and data.max_tokens and batch.tokens_per_micro_batch < data.max_tokens:
        faults.append(
            f"batch.tokens_per_micro_batch: {batch.tokens_per_micro_batch} is less than data.max_tokens {data.max_tokens}; "
            "a micro-batch must hold the longest sample: raise it or lower data.max_tokens"
        )
    if batch.samples_per_step and data.packing == "concat":
        faults.append(
            "batch.samples_per_step: data.packing: concat makes one stream of all samples; set batch.tokens_per_step instead"
        )
    faults += _mixture_conflicts(settings.mixture, settings.tasks)
    faults += balance_conflicts(settings)
    faults += [
        f"tasks.{name}: a task's name is letters, digits, '_', '-' and '.' (at most 100), for it names files"
        for name in settings.tasks
        if not _is_safe_name(name)
    ]
    if settings.optimizer.min_lr > settings.optimizer.lr:
        faults.append(f"optimizer.min_lr: {settings.optimizer.min_lr} is above optimizer.lr {settings.optimizer.lr}")
    if not all(0 <= beta < 1 for beta in settings.optimizer.betas):
        faults.append(f"optimizer.betas: {list(settings.optimizer.betas)} must lie at or above 0 and below 1")
    if settings.engine.kind == "local" and settings.engine.processes > 1:
        faults.append(
            f"engine.kind: local runs one process, not engine.processes {settings.engine.processes}; use ddp or auto"
        )
    return faults


def _mixture_conflicts(mixture: MixtureSettings, tasks: Mapping[str, TaskSettings]) -> list[str]:
    """What in a mixture can't be honoured: one of its own making, or one made of stages."""
    faults = []
    if mixture.stages:
        whole = MixtureSettings()
        faults += [
            f"mixture.{name}: is set beside mixture.stages; set it in each stage instead"
            for name in StageSettings.model_fields
            if getattr(mixture, name) != getattr(whole, name)
        ]
        for number, stage in enumerate(mixture.stages, 1):
            faults += [f"mixture.stages: stage {number}: {fault}" for fault in _stage_conflicts(stage, tasks)]
            if stage.by in _BY_WEIGHTS and not any(weight > 0 for weight in stage.weights.values()):
                faults.append(f"mixture.stages: stage {number}: weights: by: {stage.by} needs a positive one")
        faults += [
            f"tasks.{name}: has no weight in any of mixture.stages, so it would never be seen; give it one, or remove the task"
            for name in tasks
            if all(stage.by in _BY_WEIGHTS and not stage.weights.get(name, 0) > 0 for stage in mixture.stages)
        ]
    else:
        faults += [f"mixture.{fault}" for fault in _stage_conflicts(mixture, tasks)]
        missing = [task for task in tasks if not mixture.weights.get(task)]
        if mixture.by in _BY_WEIGHTS and missing:
            faults.append(
                f"mixture.weights: no weight for {', '.join(missing)}; by: {mixture.by} needs one above 0 for every task"
            )
    if mixture.stages or mixture.by != "rows":
        now = "mixture.stages" if mixture.stages else f"mixture.by: {mixture.by}"
        faults += [
            f"tasks.{name}.epochs: has no effect with {now}; use mixture.by: rows"
            for name, task in tasks.items()
            if task.epochs is not None
        ]
    return faults


def _stage_conflicts(stage: StageSettings | MixtureSettings, tasks: Mapping[str, TaskSettings]) -> list[str]:
    faults = []
    if stage.weights and stage.by not in _BY_WEIGHTS:
        faults.append(f"weights: has no effect with by: {stage.by}; set by: weight or by: trained_tokens")
    if stage.temperature != StageSettings().temperature and stage.by != "temperature":
        faults.append(f"temperature: has no effect with by: {stage.by}; set by: temperature")
    faults += [
        f"weights.{task}: there is no such task; the tasks are {', '.join(tasks)}"
        for task in stage.weights
        if task not in tasks
    ]
    faults += [
        f"weights.{task}: {weight} is not a positive number"
        for task, weight in stage.weights.items()
        if not 0 <= weight < float("inf")
    ]
    return faults


def _is_safe_name(name: str) -> bool:
    return 0 < len(name) <= 100 and name[0] not in ".-" and all(c.isalnum() or c in "_-." for c in name)
