"""One answer, token by token, from a loop of our own: a plain generator, so whoever reads it may stop at any token.

The cache is kept between answers. It is used again only where the ids in it are the beginning of the new prompt: nothing else in
the libraries would notice that they are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import DynamicCache

from weft.errors import ConfigError
from weft.generation.decoding import Decoding, processors
from weft.generation.model import Loaded
from weft.models.load import base_of


class Stream:
    """Answers one prompt after another with a cache. `reused` tells how many tokens the last prompt found in it."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._cache: DynamicCache | None = None
        self._ids: list[int] = []  # what the cache holds
        self.reused = 0

    def forget(self) -> None:
        self._cache, self._ids = None, []

    def answer(self, prompt: Sequence[int], decoding: Decoding) -> Iterator[int]:
        """The answer's ids; the stop token, if it comes to that, is the last. Raises ConfigError for beams, which can't stream."""
        if decoding.num_beams > 1:
            raise ConfigError("num_beams: beams can't be streamed, for the best is known only at the end; set it to 1")
        choose = processors(decoding)
        generator = torch.Generator(self._loaded.device).manual_seed(decoding.seed)
        self.reused = (
            len(self._ids) if self._ids == list(prompt[: len(self._ids)]) and len(self._ids) < len(prompt) else 0
        )
        if not self.reused:
            self.forget()
        seen, new = list(prompt), list(prompt[self.reused :])
        for _ in range(decoding.max_new_tokens):
            logits_1V = choose(torch.tensor([seen], device=self._loaded.device), self._forward(new))
            if decoding.samples:
                number = int(torch.multinomial(logits_1V.softmax(-1), 1, generator=generator))
            else:
                number = int(logits_1V.argmax(-1))
            seen.append(number)
            new = [number]
            yield number
            if number in self._loaded.stop_ids:
                return

    @torch.inference_mode()
    def _forward(self, new: Sequence[int]) -> torch.Tensor:
        """Read the new ids; gives the logits of the next token, [1, V] in fp32."""
        cache, held = self._cache, self._ids
        self.forget()  # a forward that is interrupted leaves a cache that must not be used again
        if cache is None:
            cache = DynamicCache(config=base_of(self._loaded.model).config)
        ids_1T = torch.tensor([list(new)], device=self._loaded.device)
        position_1T = torch.arange(len(held), len(held) + len(new), device=self._loaded.device)[None]
        mask_1T = torch.ones((1, len(held) + len(new)), dtype=torch.long, device=self._loaded.device)
        out = self._loaded.model(
            input_ids=ids_1T,
            attention_mask=mask_1T,
            position_ids=position_1T,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache, self._ids = cache, [*held, *new]
        return out.logits[:, -1].float()
