"""How the next token is chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from weft.errors import ConfigError
from weft.generation.model import Loaded


@dataclass(frozen=True)
class Decoding:
    """Greedy where `temperature` is 0, else sampling. Nothing of a model folder's own generation settings is taken over."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0: no limit."""
    repetition_penalty: float = 1.0
    """Divides the logits of tokens that have been seen (arXiv 1909.05858)."""
    seed: int = 0
    batch_size: int = 16
    num_beams: int = 1

    def __post_init__(self) -> None:
        """Raises ConfigError with everything that is out of range, or that greedy decoding would ignore."""
        counts = {"max_new_tokens": self.max_new_tokens, "batch_size": self.batch_size, "num_beams": self.num_beams}
        faults = [f"{name} {value} must be at least 1" for name, value in counts.items() if value < 1]
        if not 0 <= self.temperature < math.inf:
            faults.append(f"temperature {self.temperature} must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            faults.append(f"top_p {self.top_p} must lie above 0 and be at most 1")
        if self.top_k < 0:
            faults.append(f"top_k {self.top_k} must be 0 (no limit) or more")
        if not 0 < self.repetition_penalty < math.inf:
            faults.append(f"repetition_penalty {self.repetition_penalty} must be above 0; 1 is none")
        if self.temperature == 0 and (self.top_p != 1 or self.top_k != 0):
            faults.append("top_p and top_k have no effect on greedy decoding; set a temperature above 0 too")
        if faults:
            raise ConfigError("\n".join(faults))

    @property
    def samples(self) -> bool:
        return self.temperature > 0


def generation_config(decoding: Decoding, loaded: Loaded, max_new_tokens: int) -> GenerationConfig:
    """The same for Transformers' `generate`, every field that counts set."""
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=decoding.samples,
        temperature=decoding.temperature if decoding.samples else 1.0,
        top_p=decoding.top_p,
        top_k=decoding.top_k if decoding.samples else None,  # said to be ignored, loudly, if set
        repetition_penalty=decoding.repetition_penalty,
        num_beams=decoding.num_beams,
        eos_token_id=list(loaded.stop_ids),
        pad_token_id=loaded.tokenizer.pad_id,
        use_cache=True,
    )


def processors(decoding: Decoding) -> LogitsProcessorList:
    """The same for a loop of one's own, in Transformers' order; without beams."""
    chosen = LogitsProcessorList()
    if decoding.repetition_penalty != 1:
        chosen.append(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty))
    if decoding.samples and decoding.temperature != 1:
        chosen.append(TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_k:
        chosen.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1:
        chosen.append(TopPLogitsWarper(decoding.top_p))
    return chosen
