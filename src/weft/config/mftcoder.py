"""Reads an MFTCoder training JSON as what it means there.

Each of its keys is translated, needless (it changes speed or logging only: noted at info level), or can't be honoured
(an error that names it); none is ignored in silence. Keys that are left out take MFTCoder's defaults, not weft's. Four
things that its names do not tell: `constant` has no warm-up there (`constant_with_warmup` has), training all weights
keeps two checkpoints where `saving_limit` is not set, a sample of `concat` is a full row of seq_length tokens, and a history
is as many observations long, one every interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from weft.config.check import check
from weft.config.faults import Fault, Origins
from weft.config.settings import Settings
from weft.config.words import did_you_mean, show
from weft.log import logger

_SIGNS = ("data_paths", "pretrained_model_path")

_DIRECT: dict[str, tuple[str, object]] = {
    "pretrained_model_path": ("model.base", None),
    "output_dir": ("output", None),
    "padding_mode": ("data.packing", "padding"),
    "num_train_epochs": ("mixture.epochs", 4),
    "max_train_steps": ("mixture.max_steps", None),
    "learning_rate": ("optimizer.lr", 5e-5),
    "weight_decay": ("optimizer.weight_decay", 0.01),
    "seed": ("seed", 1234),
    "checkpointing_steps": ("save.every", 100),
    "evaluation_steps": ("validate.every", 100),
}
"""Keys whose value is a setting of ours as it stands, with MFTCoder's default."""

_TRANSLATED = (
    *("data_paths", "task_weights", "data_split", "seq_length", "tokenize_mode", "weighted_loss_mode", "role_markers"),
    *("peft_type", "quantization", "lora_rank", "lora_alpha", "lora_dropout", "target_modules", "tb_dir"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "lr_scheduler_type", "num_warmup_steps", "min_lr"),
    *("early_stopping", "early_stopping_stall_num", "saving_limit", "attn_implementation"),
)

_NEEDLESS = {
    "model_type": "the model's own config.json says it",
    "distributed_type": "the result does not depend on the engine",
    "log_interval": "every step is logged",
    "per_device_eval_batch_size": "a matter of memory, which batch.tokens_per_micro_batch decides",
    "use_dynamic_padding": "nothing is padded",
    "low_cpu_mem_usage": "weights are loaded lazily",
    "data_weights": "MFTCoder ignores it too",
    "world_size": "MFTCoder takes it from the launcher too",
    "init_timeout_seconds": "processes wait as long as torch's default",
    "use_xformers": "it is left over there too",
    "trust_remote_code": "no remote code is run",
    "weight_by_num_documents": "it is left over there too",
    "make_vocab_size_divisible_by": "it is left over there too",
}

_FIXED: dict[str, tuple[object, str]] = {
    "resume_from_checkpoint": (None, "weft goes on with the run that it finds in output_dir; leave the key out"),
    "auto_resume": (True, "weft goes on with the run that it finds in output_dir; name an empty folder instead"),
    "epoch_checkpointing": (False, "weft saves every checkpointing_steps and at the end; set it to false"),
    "shuffle_before_split": (True, "weft splits by a hash of each row, whatever their order; set it to true"),
    "use_random_sampler": (True, "weft shuffles always; set it to true"),
    "load_raw_dataset": (True, "weft reads JSON rows, no tokenized binaries; set it to true"),
    "tokenizer_type": ("AutoTokenizer", "weft loads tokenizers as AutoTokenizer does; set it to AutoTokenizer"),
    "use_slow_tokenizer": (False, "weft needs the fast tokenizer; set it to false"),
    "model_parallel_size": (1, "weft does not split a model over devices; set it to 1"),
}
"""Keys of which one value is what weft does anyway, and what to do about the others."""

_BALANCING: dict[str, dict[str, int]] = {
    "coba": {
        "coba_warmup_steps": 100,
        "coba_history_length": 200,
        "coba_tau": 5,
        "coba_update_interval": 1,
        "coba_sample_valid_num": 1,
    },
    "selfpaced": {
        "selfpaced_scale_factor": 50,
        "selfpaced_interval": 1,
        "selfpaced_history_length": 100,
        "selfpaced_sample_valid_num": 1,
    },
}
"""The weighted_loss_modes whose weights move, with their keys and MFTCoder's defaults."""

_PREFERENCE = ("xxpo", "beta", "rpo_alpha", "max_prompt_length", "max_length")
_KNOWN = (
    *_DIRECT,
    *_TRANSLATED,
    *_NEEDLESS,
    *_FIXED,
    *(key for keys in _BALANCING.values() for key in keys),
    *_PREFERENCE,
)

_WEIGHTINGS = {"case1": "token", "case2": "sample", "case3": "task", "case4": "task_sample"}
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant"}
_ATTENTION = ("flash_attention_2", "sdpa", "eager")
_STANDS_IN = "?"
_NO_LIMIT = 1_000_000
_DEFAULT_SEQ_LENGTH = 4096


@dataclass(slots=True)
class Translation:
    """Our settings as a mapping, the user's name of each of them, and what could not be translated."""

    settings: dict[str, object] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def put(self, setting: str, value: object, key: str) -> None:
        """Set `setting`, which stands as `key` in the user's file."""
        section, _, name = setting.rpartition(".")
        target = self.settings
        if section:
            target = self.settings.setdefault(section, {})  # type: ignore[assignment]
        target[name] = value
        self.names[setting] = key

    def value(self, setting: str) -> object:
        """What a setting of a section was set to; None where it wasn't."""
        section, _, name = setting.partition(".")
        found = self.settings.get(section)
        return found.get(name) if isinstance(found, dict) else None

    def refuse(self, key: str, message: str) -> None:
        """Note that `key` can't be honoured."""
        self.faults.append(Fault(key, message))


def is_mftcoder(mapping: Mapping[str, object]) -> bool:
    """Whether a file's content is MFTCoder's, by the keys that none of its files lacks."""
    return any(key in mapping for key in _SIGNS)


def from_mftcoder(mapping: Mapping[str, object], where: str, processes: int = 1) -> Settings:
    """The settings that an MFTCoder training JSON means; `where` names it in errors.

    `processes` is how many train together: one step has per_device_train_batch_size × gradient_accumulation_steps ×
    processes samples. Raises ConfigError with all that is wrong or can't be honoured.
    """
    translation = translate(mapping, processes)
    return check(translation.settings, Origins(where, names=translation.names), translation.faults)


def translate(mapping: Mapping[str, object], processes: int) -> Translation:
    """MFTCoder's keys as a mapping of ours, before its values are checked."""
    to = Translation()
    _keys(mapping, to)
    for key, (setting, default) in _DIRECT.items():
        if key in mapping or default is not None:
            to.put(setting, mapping.get(key, default), key)
        elif key in ("pretrained_model_path", "output_dir"):
            to.refuse(key, "is required")
            to.put(setting, _STANDS_IN, key)
    _tasks(mapping, to)
    _split(mapping, to)
    _adapter(mapping, to)
    _batch(mapping, to, processes)
    _optimizer(mapping, to)
    _template(mapping, to)
    _choices(mapping, to)
    _stopping(mapping, to)
    if mapping.get("tb_dir") is not None:
        to.put("track", ["tensorboard"], "tb_dir")
        logger.info("MFTCoder's tb_dir: TensorBoard's files go to the run's folder")
    return to


def _keys(mapping: Mapping[str, object], to: Translation) -> None:
    """Name the keys that are unknown, can't be honoured, or are not needed."""
    needless = []
    for key, value in mapping.items():
        if key not in _KNOWN:
            to.refuse(str(key), "MFTCoder has no such key" + did_you_mean(str(key), _KNOWN))
        elif key in _PREFERENCE:
            to.refuse(key, "preference training (dpo, orpo) is not supported; leave the key out to train on answers")
        elif key in _FIXED and value != _FIXED[key][0]:
            to.refuse(key, f"{show(value)} is not supported: {_FIXED[key][1]}")
        elif key in _NEEDLESS:
            needless.append(f"{key} ({_NEEDLESS[key]})")
        else:
            needless += [
                f"{key} (it has a meaning for weighted_loss_mode {mode} only)"
                for mode, keys in _BALANCING.items()
                if key in keys and mapping.get("weighted_loss_mode") != mode
            ]
    if needless:
        logger.info("Keys of MFTCoder that are not needed: %s", "; ".join(needless))


def _tasks(mapping: Mapping[str, object], to: Translation) -> None:
    to.put("tasks", {"task": _STANDS_IN}, "data_paths")
    example = 'write "[data/sql,data/chat]"'
    if "data_paths" not in mapping:
        return to.refuse("data_paths", f"is required; {example}")
    items = _items(mapping["data_paths"]) or []
    paths = [item for item in items if isinstance(item, str) and item.strip(" /")]
    if not paths or len(paths) < len(items):
        return to.refuse("data_paths", f"{show(mapping['data_paths'])} is not a list of folders; {example}")
    names = [path.rstrip("/").rpartition("/")[2] for path in paths]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        message = f"two folders are named {', '.join(twice)}, and a folder's last name is its task's; rename one"
        return to.refuse("data_paths", message)
    weights = _items(mapping.get("task_weights") or [1.0] * len(names))
    if weights is None:
        weights = [mapping["task_weights"]]
    if len(weights) != len(names):
        counts = f"{len(weights)} weights for the {len(names)} tasks {', '.join(names)}"
        to.refuse(
            "task_weights",
            f"{show(mapping['task_weights'])} gives {counts}; give one for each, in the order of data_paths",
        )
        weights = [1.0] * len(names)
    kind = "text" if mapping.get("tokenize_mode") == "pretrain" else "auto"
    tasks = {}
    for name, path, weight in zip(names, paths, weights, strict=True):
        tasks[name] = {"path": path, "weight": weight, "format": kind}
        to.names |= {
            f"tasks.{name}": "data_paths",
            f"tasks.{name}.path": "data_paths",
            f"tasks.{name}.weight": "task_weights",
        }
    return to.put("tasks", tasks, "data_paths")


def _items(value: object) -> list[object] | None:
    """A list, or MFTCoder's "[a,b]"; None for anything else."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        return [item.strip().strip("'\"").strip() for item in value.strip()[1:-1].split(",")]
    return None


def _split(mapping: Mapping[str, object], to: Translation) -> None:
    text = mapping.get("data_split", "98,2,0")
    try:
        shares = [float(part) for part in str(text).replace("/", ",").split(",")]
    except ValueError:
        shares = []
    shares += [0.0] * (3 - len(shares))
    total = sum(shares)
    if (
        not isinstance(text, str)
        or len(shares) > 3
        or not all(0 <= share < float("inf") for share in shares)
        or shares[0] <= 0
    ):
        message = f'{show(text)} is not train, validation and test in percent, such as "98,2,0"'
        return to.refuse("data_split", message)
    to.put("data.validation", shares[1] / total, "data_split")
    return to.put("data.test", shares[2] / total, "data_split")


def _adapter(mapping: Mapping[str, object], to: Translation) -> None:
    kind = mapping.get("peft_type", "qlora")
    remedy = 'write "lora", or null to train all weights'
    if "peft_type" not in mapping:
        to.refuse("peft_type", f"is left out, and MFTCoder's default qlora is not supported; {remedy}")
    elif kind not in ("lora", None):
        to.refuse("peft_type", f"{show(kind)} is not supported; {remedy}")
    if mapping.get("quantization") is not None:
        to.refuse("quantization", f"{show(mapping['quantization'])} is not supported; write null")
    if kind is None:
        return to.put("adapter", {"kind": "none"}, "peft_type")
    targets = mapping.get("target_modules")
    if isinstance(targets, str) and targets != "all-linear":
        pattern, targets = targets, _items(targets)
        if not targets:
            to.refuse("target_modules", f"{show(pattern)} is a pattern; list the modules' names instead")
    to.put("adapter.kind", "lora", "peft_type")
    to.put("adapter.rank", mapping.get("lora_rank", 96), "lora_rank")
    to.put("adapter.alpha", mapping.get("lora_alpha", 32), "lora_alpha")
    to.put("adapter.dropout", mapping.get("lora_dropout", 0.05), "lora_dropout")
    return to.put("adapter.targets", targets or "all-linear", "target_modules")


def _batch(mapping: Mapping[str, object], to: Translation, processes: int) -> None:
    size = _count(mapping, "per_device_train_batch_size", 8, to)
    accumulated = _count(mapping, "gradient_accumulation_steps", 1, to)
    length = _count(mapping, "seq_length", _DEFAULT_SEQ_LENGTH, to)
    samples = size * accumulated * processes
    if mapping.get("padding_mode") == "concat":
        to.put("batch.tokens_per_step", samples * length, "per_device_train_batch_size")
    else:
        to.put("batch.samples_per_step", samples, "per_device_train_batch_size")
    if mapping.get("seq_length") is not None:
        to.put("data.max_tokens", length, "seq_length")
    # never more at once than MFTCoder would hold, nor more than our own default
    micro_batch = min(size * length, max(8192, length))
    to.put("batch.tokens_per_micro_batch", micro_batch, "per_device_train_batch_size")


def _count(mapping: Mapping[str, object], key: str, default: int, to: Translation, least: int = 1) -> int:
    value = mapping.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    if value is not None or key != "seq_length":
        to.refuse(key, f"{show(value)} is not a whole number (at least {least})")
    return default


def _positive(mapping: Mapping[str, object], key: str, default: int, to: Translation) -> float:
    value = mapping.get(key, default)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return value
    to.refuse(key, f"{show(value)} is not a number (above 0)")
    return default


def _optimizer(mapping: Mapping[str, object], to: Translation) -> None:
    name = mapping.get("lr_scheduler_type", "cosine")
    if not isinstance(name, str) or name not in _SCHEDULES:
        to.refuse(
            "lr_scheduler_type",
            f"{show(name)} is not one of {', '.join(_SCHEDULES)}{did_you_mean(str(name), _SCHEDULES)}",
        )
        name = "cosine"
    to.put("optimizer.schedule", _SCHEDULES[name], "lr_scheduler_type")
    warmup = mapping.get("num_warmup_steps", 0.05)
    if name == "constant":
        warmup = 0
        if mapping.get("num_warmup_steps"):
            logger.info(
                "MFTCoder's constant has no warm-up, so num_warmup_steps is not used; constant_with_warmup has one"
            )
    to.put("optimizer.warmup", warmup, "num_warmup_steps")
    rate = mapping.get("learning_rate", 5e-5)
    least = min(5e-6, rate) if isinstance(rate, int | float) and rate > 0 else 0.0
    to.put("optimizer.min_lr", mapping.get("min_lr", least), "min_lr")


def _template(mapping: Mapping[str, object], to: Translation) -> None:
    to.put("template.name", "mftcoder", "role_markers")
    markers = mapping.get("role_markers")
    if markers is not None:
        to.put("template.markers", markers, "role_markers")


def _choices(mapping: Mapping[str, object], to: Translation) -> None:
    to.put("data.too_long", "drop", "padding_mode")
    _weighting(mapping, to)
    mode = mapping.get("tokenize_mode", "sft")
    if mode not in ("sft", "pretrain"):
        to.refuse("tokenize_mode", f"{show(mode)} is not supported; write sft or pretrain")
    attention = mapping.get("attn_implementation", "sdpa")
    if attention in _ATTENTION:
        if "attn_implementation" in mapping:
            logger.info("MFTCoder's attn_implementation is not needed: weft's attention keeps packed samples apart")
    else:
        to.refuse("attn_implementation", f"{show(attention)} is not one of {', '.join(_ATTENTION)}")


def _weighting(mapping: Mapping[str, object], to: Translation) -> None:
    weighting = mapping.get("weighted_loss_mode", "case3")
    if isinstance(weighting, str) and weighting in _WEIGHTINGS:
        to.put("loss.weighting", _WEIGHTINGS[weighting], "weighted_loss_mode")
    elif isinstance(weighting, str) and weighting in _BALANCING:
        _balance(weighting, mapping, to)
    else:
        known = (*_WEIGHTINGS, *_BALANCING)
        message = f"{show(weighting)} is not supported; write one of {', '.join(known)}"
        to.refuse("weighted_loss_mode", message + did_you_mean(str(weighting), known))


def _balance(method: str, mapping: Mapping[str, object], to: Translation) -> None:
    """The task mean with weights that move by `method`."""

    def count(key: str, least: int = 1) -> int:
        return _count(mapping, key, _BALANCING[method][key], to, least)

    def positive(key: str) -> float:
        return _positive(mapping, key, _BALANCING[method][key], to)

    every_key = "coba_update_interval" if method == "coba" else "selfpaced_interval"
    rows_key = f"{method}_sample_valid_num"
    every, history = count(every_key), count(f"{method}_history_length")
    options: dict[str, float] = {"warmup": history, "window": history * every}
    if method == "coba":
        options |= {"warmup": count("coba_warmup_steps", least=0), "tau": positive("coba_tau")}
    else:
        options["scale"] = positive("selfpaced_scale_factor")
    to.put("loss.weighting", "task", "weighted_loss_mode")
    to.put("balance.method", method, "weighted_loss_mode")
    to.put("balance.options", options, "weighted_loss_mode")
    to.put("balance.every", every, every_key)
    to.put("balance.rows", count(rows_key), rows_key)


def _stopping(mapping: Mapping[str, object], to: Translation) -> None:
    stops = mapping.get("early_stopping", True)
    if not isinstance(stops, bool):
        to.refuse("early_stopping", f"{show(stops)} is not true or false")
    elif stops and to.value("data.validation"):  # over there, too, nothing stops early without validation rows
        to.put("validate.stop_after", mapping.get("early_stopping_stall_num", 5), "early_stopping_stall_num")
    limit = mapping.get("saving_limit")
    if limit is None:
        limit = 2 if mapping.get("peft_type", "qlora") is None else _NO_LIMIT
    to.put("save.keep", limit, "saving_limit")
    if mapping.get("max_train_steps") is not None:
        logger.info("MFTCoder's max_train_steps: training ends with it or with num_train_epochs, whichever comes first")
