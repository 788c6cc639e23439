"""Batches against prompts alone, and against a loop that knows no cache, no padding and no `generate`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from weft.errors import ConfigError, DataError
from weft.generation.batch import generate, generate_ids
from weft.generation.decoding import Decoding
from weft.generation.model import Loaded, open_model
from weft.generation.text import prompt_ids
from weft.types import Message

TEXTS = ["Hello", "What is 7 times 6? " * 9, "x", "你好，世界。", "Grüße aus Köln!\nand more"]
KINDS = ["llama", "qwen2", "gpt2", "mistral-sliding", "gpt-neox"]


def naive(loaded: Loaded, prompt: list[int], num_new: int) -> list[int]:
    """Greedy by whole forward passes."""
    ids = list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + num_new and not (len(ids) > len(prompt) and ids[-1] in loaded.stop_ids):
            ids.append(int(loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def conversations() -> list[list[Message]]:
    return [[Message("user", text)] for text in TEXTS]


@pytest.mark.parametrize("kind", KINDS)
def test_batched_greedy_answers_are_those_of_a_naive_loop_in_the_order_of_the_prompts(
    kind: str, model_folder: Callable[[str], Path]
) -> None:
    loaded = open_model(model_folder(kind))
    prompts = [prompt_ids(loaded, messages) for messages in conversations()]
    answers = generate(loaded, conversations(), Decoding(max_new_tokens=14, batch_size=3))
    assert [list(a.ids) for a in answers] == [naive(loaded, prompt, 14) for prompt in prompts]
    for answer in answers:
        assert (answer.stopped == "stop") == (answer.ids[-1] in loaded.stop_ids)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_prompts_of_one_token_can_share_a_batch_with_long_ones(kind: str, model_folder: Callable[[str], Path]) -> None:
    loaded = open_model(model_folder(kind))
    prompts = [[7], [9, 8, 11] * 30, [5]]
    together = generate_ids(loaded, prompts, Decoding(max_new_tokens=9))
    assert [list(a.ids) for a in together] == [naive(loaded, prompt, 9) for prompt in prompts]


def test_a_repetition_penalty_does_not_see_the_padding(model_folder: Callable[[str], Path]) -> None:
    loaded = open_model(model_folder("llama"))
    penalty = Decoding(max_new_tokens=1, repetition_penalty=30.0)
    likely = generate(loaded, conversations()[2:3], penalty)[0].ids[0]  # chosen though all of the prompt is penalised
    config = {**loaded.tokenizer.config, "pad_token": loaded.tokenizer.backend.id_to_token(likely)}
    loaded = replace(loaded, tokenizer=replace(loaded.tokenizer, config=config), stop_ids=(399,))
    decoding = Decoding(max_new_tokens=12, repetition_penalty=30.0)
    alone = [generate(loaded, [messages], decoding)[0] for messages in conversations()]
    assert generate(loaded, conversations(), decoding) == alone


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_an_answer_is_cut_where_the_model_can_read_no_further(kind: str, model_folder: Callable[[str], Path]) -> None:
    loaded = open_model(model_folder(kind))
    prompts = [[9] * 508, [9] * 511, [9, 8], [9] * 508]
    loaded = replace(loaded, stop_ids=(399,))
    answers = generate_ids(loaded, prompts, Decoding(max_new_tokens=6))
    assert [len(a.ids) for a in answers] == [4, 1, 6, 4]
    assert {a.stopped for a in answers} == {"length"}


def test_every_prompt_without_room_is_named(model_folder: Callable[[str], Path]) -> None:
    loaded = open_model(model_folder("llama"))
    with pytest.raises(DataError, match=r"(?s)2 of 3 prompts.*prompt 1: 512 tokens\nprompt 3: 600 tokens"):
        generate_ids(loaded, [[9] * 512, [9], [9] * 600])


def test_a_folders_own_sampling_settings_are_not_taken_over(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    own = {
        "do_sample": True,
        "temperature": 9.0,
        "repetition_penalty": 5.0,
        "no_repeat_ngram_size": 1,
        "eos_token_id": [7, 1],
    }
    (folder / "generation_config.json").write_text(json.dumps(own))
    loaded, plain = open_model(folder), open_model(model_folder("llama"))
    assert set(loaded.stop_ids) == {7, 1}
    plain = replace(plain, stop_ids=loaded.stop_ids)
    decoding = Decoding(max_new_tokens=20)
    assert generate(loaded, conversations(), decoding) == generate(plain, conversations(), decoding)


def test_sampling_repeats_with_its_seed_and_leaves_other_randomness_alone(model_folder: Callable[[str], Path]) -> None:
    loaded = open_model(model_folder("llama"))
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    decoding = Decoding(max_new_tokens=8, temperature=1.5, top_k=50, top_p=0.9, seed=3)
    first = generate(loaded, conversations(), decoding)
    assert torch.equal(torch.rand(3), expected)
    assert generate(loaded, conversations(), decoding) == first
    other = Decoding(max_new_tokens=8, temperature=1.5, top_k=50, top_p=0.9, seed=4)
    assert generate(loaded, conversations(), other) != first


def test_beams_find_an_answer_at_least_as_likely(model_folder: Callable[[str], Path]) -> None:
    loaded = open_model(model_folder("llama"))
    answers = generate(loaded, conversations(), Decoding(max_new_tokens=5, num_beams=3))
    assert len(answers) == len(TEXTS)


def test_no_prompts_give_no_answers(model_folder: Callable[[str], Path]) -> None:
    assert generate(open_model(model_folder("llama")), []) == []


def test_settings_out_of_range_or_without_effect_are_refused_together() -> None:
    with pytest.raises(ConfigError, match=r"(?s)max_new_tokens 0.*top_p 0.*top_k -1"):
        Decoding(max_new_tokens=0, top_p=0, top_k=-1, temperature=1)
    with pytest.raises(ConfigError, match="no effect on greedy"):
        Decoding(top_p=0.9)
