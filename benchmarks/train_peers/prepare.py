"""Prepares what every contender shares: the base model, the adapter's start, the tokenizer and the steps.

Runs in a process of its own, so that the driver stays small: a child's peak RSS begins at its parent's.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from protocol import PADDED_BATCH
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 32_000
CANDIDATES = 300
"""Draws per step, of which the one that fills its rows best is kept."""


def read_rows(path: Path) -> list[tuple[str, str]]:
    """(prompt, answer) of every Alpaca row in a .json or .jsonl file (gzip too), or in all such files of a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    rows = []
    for file in files:
        if not {".json", ".jsonl"} & set(file.suffixes):
            continue
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        text = raw.decode()
        whole = text.lstrip().startswith("[")
        items = json.loads(text) if whole else [json.loads(line) for line in text.split("\n") if line.strip()]
        for item in items:
            if isinstance(item, dict) and item.get("instruction") and item.get("output"):
                more = f"\n\n### Input:\n{item['input']}" if item.get("input") else ""
                rows.append((f"### Instruction:\n{item['instruction']}{more}\n\n### Response:\n", item["output"]))
    return rows


def made_rows(number: int = 4000) -> list[tuple[str, str]]:
    """Rows for when there are none: sums and sorted words of varying length, from a fixed seed."""
    draw = random.Random(0)
    words = ["warp", "weft", "loom", "thread", "shuttle", "cloth", "reed", "heddle", "bobbin", "twill"]
    rows = []
    for _ in range(number):
        picked = draw.choices(words, k=draw.randint(10, 120))
        numbers = [draw.randint(1, 999) for _ in range(draw.randint(2, 40))]
        prompt = f"Sort these words: {' '.join(picked)}. Then add {' + '.join(map(str, numbers))}."
        rows.append((f"### Instruction:\n{prompt}\n\n### Response:\n", f"{' '.join(sorted(picked))}\n{sum(numbers)}"))
    return rows


def load_tokenizer(folder: Path | None, rows: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder with tokenizer.json and its config, or a byte-level BPE trained on the rows."""
    if folder is None:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator((prompt + answer for prompt, answer in rows), trainer)
        bos, eos = "<s>", "</s>"
    else:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        bos, eos = (_content(config.get(key)) for key in ("bos_token", "eos_token"))
        if eos is None:
            raise SystemExit(f"{folder / 'tokenizer_config.json'} names no eos_token: an answer needs an end")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos or eos, eos_token=eos, pad_token=eos)


def _content(token: str | dict[str, str] | None) -> str | None:
    return token["content"] if isinstance(token, dict) else token


def encode(
    rows: list[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, capacity: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(ids, weight) of each row: bos, prompt, then answer and eos, which are trained. Too long rows are dropped."""
    backend = tokenizer.backend_tokenizer
    prompts = backend.encode_batch_fast([prompt for prompt, _ in rows], add_special_tokens=False)
    answers = backend.encode_batch_fast([answer for _, answer in rows], add_special_tokens=False)
    samples = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = [tokenizer.bos_token_id, *prompt.ids, *answer.ids, tokenizer.eos_token_id]
        weight = [0.0] * (1 + len(prompt.ids)) + [1.0] * (len(answer.ids) + 1)
        if len(ids) <= capacity:
            samples.append((np.array(ids, np.int32), np.array(weight, np.float32)))
    return samples


def pack(lengths: list[int], capacity: int) -> list[list[int]]:
    """Best-fit-decreasing: indices of the samples of each row."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [r for r in range(len(rows)) if room[r] >= lengths[index]]
        if fitting:
            row = min(fitting, key=lambda r: room[r])
        else:
            row = len(rows)
            rows.append([])
            room.append(capacity)
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows


def make_steps(
    samples: list[tuple[np.ndarray, np.ndarray]], num_steps: int, tokens_per_step: int, capacity: int
) -> dict[str, np.ndarray]:
    """The arrays of steps.npz (see protocol.py).

    Every step has equally many samples, a multiple of the padded micro-batch, so trainers that count in samples can
    take the same steps. Of several draws the one is kept that needs the fewest rows and fills them best.
    """
    length_S = np.array([len(ids) for ids, _ in samples])
    each = max(PADDED_BATCH, round(0.97 * tokens_per_step / length_S.mean() / PADDED_BATCH) * PADDED_BATCH)
    if len(samples) < each * num_steps:
        raise SystemExit(f"{num_steps} steps of {each} samples need more than the {len(samples)} rows of the data")
    draw = np.random.default_rng(0)
    free = np.arange(len(samples))
    order: list[int] = []
    packed: list[int] = []
    micro_samples: list[int] = []
    step_micros: list[int] = []
    for _ in range(num_steps):
        options = [draw.choice(free, each, replace=False) for _ in range(CANDIDATES)]
        packings = [pack(length_S[option].tolist(), capacity) for option in options]
        best = min(range(CANDIDATES), key=lambda i: (len(packings[i]), -int(length_S[options[i]].sum())))
        free = np.setdiff1d(free, options[best])
        packed += [len(order) + index for row in packings[best] for index in row]
        order += options[best].tolist()
        micro_samples += [len(row) for row in packings[best]]
        step_micros.append(len(packings[best]))
    return {
        "ids_T": np.concatenate([samples[i][0] for i in order]),
        "weight_T": np.concatenate([samples[i][1] for i in order]),
        "length_S": length_S[order],
        "step_samples_N": np.full(num_steps, each),
        "packed_S": np.array(packed),
        "micro_samples_M": np.array(micro_samples),
        "step_micros_N": np.array(step_micros),
        "capacity": np.array(capacity),
    }


def make_model(work: Path, tokenizer: PreTrainedTokenizerFast, capacity: int) -> int:
    """Save a random Llama and its LoRA adapter's start; returns the number of the base model's parameters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=max(VOCABULARY, len(tokenizer)),
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=capacity,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(work / "model")
    parameters = sum(p.numel() for p in model.parameters())
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(model, lora).save_pretrained(work / "adapter")
    return parameters


def main() -> None:
    """Fill the work folder and write what was made to meta.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--num-steps", type=int, required=True)
    parser.add_argument("--tokens-per-step", type=int, required=True)
    parser.add_argument("--capacity", type=int, required=True)
    args = parser.parse_args()
    rows = read_rows(args.data) if args.data else made_rows()
    if not rows:
        raise SystemExit(f"no rows with `instruction` and `output` in {args.data}")
    tokenizer = load_tokenizer(args.tokenizer, rows)
    tokenizer.save_pretrained(args.work / "tokenizer")
    samples = encode(rows, tokenizer, args.capacity)
    arrays = make_steps(samples, args.num_steps, args.tokens_per_step, args.capacity)
    np.savez(args.work / "steps.npz", **arrays)
    meta = {
        "rows": len(rows),
        "parameters": make_model(args.work, tokenizer, args.capacity),
        "tokens_per_step": len(arrays["ids_T"]) / args.num_steps,
        "trained_share": float(arrays["weight_T"].mean()),
        "samples_per_step": int(arrays["step_samples_N"][0]),
        "micro_batches_per_step": float(arrays["step_micros_N"].mean()),
        "longest": int(arrays["length_S"].max()),
        "fill": float(len(arrays["ids_T"]) / (args.capacity * len(arrays["micro_samples_M"]))),
    }
    (args.work / "meta.json").write_text(json.dumps(meta))


if __name__ == "__main__":
    main()
