"""Probes: short greedy answers of a model, by which another can be shown to be the same model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from weft.data.prepare import prepare
from weft.errors import WeftError
from weft.generation.batch import generate_ids
from weft.generation.decoding import Decoding
from weft.generation.model import Loaded
from weft.generation.text import prompt_ids
from weft.log import logger
from weft.training.finish import load_settings_of
from weft.types import Message

_PROMPTS = ("Hello!", "What is 7 times 6?", "Write a function that adds two numbers.", "Once upon a time", "你好")
_PER_TASK, _PER_RUN = 2, 12
_PROMPT_TOKENS, _NEW_TOKENS = 256, 24


class Probe(NamedTuple):
    """A prompt of `num_prompt` ids with a greedy answer of N ids behind it, and the logits that chose each of these."""

    ids: list[int]
    num_prompt: int
    logits_NV: Tensor

    @property
    def num_new(self) -> int:
        return len(self.ids) - self.num_prompt


class Difference(NamedTuple):
    """How a model differs from the one that was probed: in how many tokens, and by how much of the largest logit."""

    tokens: int
    logits: float


def probe(loaded: Loaded, path: Path) -> list[Probe]:
    """Probes of a model, on prompts of its run's validation rows where its data is at hand, and on a few of everybody's."""
    prompts = [*_prompts_of_run(path, loaded), *(prompt_ids(loaded, [Message("user", text)]) for text in _PROMPTS)]
    answers = generate_ids(loaded, prompts, Decoding(max_new_tokens=_NEW_TOKENS))
    probes = []
    for prompt, answer in zip(prompts, answers, strict=True):
        found = Probe([*prompt, *answer.ids], len(prompt), torch.empty(0))
        logits_NV = _logits(loaded.model, found, loaded.device)
        # where two tokens are equally likely, the cache's rounding may have decided: what follows would prove nothing
        same = logits_NV.argmax(-1) == torch.tensor(answer.ids)
        sure = len(same) if same.all() else int(same.int().argmin())
        if sure:
            probes.append(Probe(found.ids[: len(prompt) + sure], len(prompt), logits_NV[:sure]))
    return probes


def compare(model: Any, probes: Sequence[Probe], device: torch.device) -> Difference:
    """How a model's own choices and logits differ from the probes'. Equal tokens here are equal greedy answers, token by token."""
    tokens, largest = 0, 0.0
    for item in probes:
        logits_NV = _logits(model, item, device)
        tokens += int((logits_NV.argmax(-1) != torch.tensor(item.ids[item.num_prompt :])).sum())
        scale = max(1.0, float(item.logits_NV.abs().max()))
        largest = max(largest, float((logits_NV - item.logits_NV).abs().max()) / scale)
    return Difference(tokens, largest)


@torch.inference_mode()
def _logits(model: Any, item: Probe, device: torch.device) -> Tensor:
    """The logits at the places that choose the answer's ids, [N, V] in fp32 on the CPU."""
    ids_1T = torch.tensor([item.ids[:-1]], device=device)
    out = model(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T), use_cache=False, logits_to_keep=item.num_new)
    return out.logits[0].float().cpu()


def _prompts_of_run(path: Path, loaded: Loaded) -> list[list[int]]:
    """The ids before the first trained token of some validation samples; none where the run's token stores are gone."""
    run = path.parent if path.name == "final" else path
    if not (run / "settings.yaml").is_file():
        return []
    try:
        settings = load_settings_of(run)
        if not settings.cache.is_dir():
            return []
        model = settings.model.model_copy(update={"base": str(loaded.tokenizer.folder)})
        stores = prepare(settings.model_copy(update={"model": model})).stores
        samples = [
            store.sample(int(number))
            for store in stores
            for number in store.split("validation", settings.data.validation, settings.data.test)[:_PER_TASK]
        ]
    except (WeftError, ValidationError, OSError) as error:
        logger.info("the run's own prompts can't be used for the check (%s); others are", error)
        return []
    prompts = [sample.ids_T[: int((sample.weight_T > 0).argmax())].tolist() for sample in samples]
    return [prompt[-_PROMPT_TOKENS:] for prompt in prompts if prompt][:_PER_RUN]
