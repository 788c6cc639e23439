"""Many prompts at once: sorted by length, padded on the left, answered in the order they came in.

A batch holds only prompts that can be computed together exactly: padded positions are masked and never counted, and where padding
would still tell (Transformers before 5.23 takes pad tokens for seen ones in a repetition penalty), only prompts of one length share
a batch. So in fp32 the greedy answer to a prompt does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from weft.errors import DataError
from weft.generation.decoding import Decoding, generation_config
from weft.generation.model import Loaded
from weft.generation.text import AnswerText, prompt_ids
from weft.types import Message, Progress, ProgressHook, silent

Stopped = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's text; its ids with the stop token if there was one; and whether it ended by itself or was cut off."""

    text: str
    ids: tuple[int, ...]
    stopped: Stopped


def generate(
    loaded: Loaded,
    conversations: Sequence[Sequence[Message]],
    decoding: Decoding | None = None,
    progress: ProgressHook = silent,
) -> list[Answer]:
    """An answer to each conversation. Raises DataError naming every prompt that is too long for the model."""
    return generate_ids(loaded, [prompt_ids(loaded, messages) for messages in conversations], decoding, progress)


def generate_ids(
    loaded: Loaded, prompts: Sequence[Sequence[int]], decoding: Decoding | None = None, progress: ProgressHook = silent
) -> list[Answer]:
    """An answer to each prompt's ids. Where prompt and answer together would be too long for the model, the answer is cut shorter."""
    decoding = decoding or Decoding()
    room = _room(loaded, prompts, decoding.max_new_tokens)
    answers: list[Answer | None] = [None] * len(prompts)
    done = 0
    for batch in _batches(prompts, room, decoding):
        for index, ids in zip(
            batch, _answer(loaded, [prompts[i] for i in batch], decoding, room[batch[0]]), strict=True
        ):
            stopped: Stopped = "stop" if ids and ids[-1] in loaded.stop_ids else "length"
            answers[index] = Answer(AnswerText(loaded, prompts[index]).of(ids, stopped == "stop"), tuple(ids), stopped)
        done += len(batch)
        progress(Progress("generate", done, len(prompts)))
    return [answer for answer in answers if answer is not None]


def _room(loaded: Loaded, prompts: Sequence[Sequence[int]], wanted: int) -> list[int]:
    """How many new tokens each prompt can have."""
    limit = loaded.max_positions
    if limit is None:
        return [wanted] * len(prompts)
    too_long = [f"prompt {i + 1}: {len(ids)} tokens" for i, ids in enumerate(prompts) if len(ids) >= limit]
    if too_long:
        more = f"\nand {len(too_long) - 20} more" if len(too_long) > 20 else ""
        raise DataError(
            f"{len(too_long)} of {len(prompts)} prompts leave no room for an answer: the model reads {limit} tokens in all. Shorten them:\n"
            + "\n".join(too_long[:20]) + more
        )  # fmt: skip
    return [min(wanted, limit - len(ids)) for ids in prompts]


def _batches(prompts: Sequence[Sequence[int]], room: Sequence[int], decoding: Decoding) -> Iterator[list[int]]:
    """The prompts' numbers, longest first, in batches of prompts that may be computed together."""
    same_length = decoding.repetition_penalty != 1

    def kind(i: int) -> tuple[int, int]:
        return room[i], len(prompts[i]) if same_length else 0

    batch: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i)):
        if batch and (len(batch) == decoding.batch_size or kind(i) != kind(batch[0])):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@torch.inference_mode()
def _answer(
    loaded: Loaded, prompts: Sequence[Sequence[int]], decoding: Decoding, max_new_tokens: int
) -> list[list[int]]:
    """The new ids of one batch, each up to its stop token. The draws of sampling depend on the seed and the batch alone."""
    width = max(map(len, prompts))
    ids_BT = torch.full((len(prompts), width), loaded.tokenizer.pad_id, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for row, ids in enumerate(prompts):
        ids_BT[row, width - len(ids) :] = torch.tensor(list(ids))
        mask_BT[row, width - len(ids) :] = 1
    devices = [loaded.device] if loaded.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(decoding.seed)
        out_BT = loaded.model.generate(
            input_ids=ids_BT.to(loaded.device),
            attention_mask=mask_BT.to(loaded.device),
            generation_config=generation_config(decoding, loaded, max_new_tokens),
        )
    return [_up_to_stop(row, loaded.stop_ids) for row in out_BT[:, width:].tolist()]


def _up_to_stop(ids: list[int], stop_ids: Sequence[int]) -> list[int]:
    end = next((i + 1 for i, number in enumerate(ids) if number in stop_ids), len(ids))
    return ids[:end]
