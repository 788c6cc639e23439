"""Make the quickstart's base model: a tokenizer and a small Llama, trained from nothing on text of our own making.

    python examples/quickstart/make_base.py

About ten minutes on two cores. The model has read the material of the tasks (corpus.py) and has never seen a task: no
role markers, no prompts, no held-out answers. The loop is bare PyTorch on purpose: pretraining is not weft's business.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from corpus import documents, lexicon
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
SEED = 17
EOS, PAD = "<|end|>", "<|pad|>"
ROW_TOKENS = 192


def held_out_answers() -> set[str]:
    """Every answer that a held-out prompt asks for."""
    answers = set()
    for path in sorted((HERE / "held_out").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            answers.add(json.loads(line)["messages"][-1]["content"])
    return answers


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE; a word, a digit or a run of signs takes the space before it, and every digit stands alone."""
    tokenizer = Tokenizer(models.BPE())
    pieces = Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def rows(texts: Iterator[str], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[int]]:
    """Rows of ROW_TOKENS ids: documents one after another, each row beginning with the beginning of one."""
    row: list[int] = []
    while True:
        for encoding in tokenizer.backend_tokenizer.encode_batch(list(islice(texts, 1000))):
            row += [*encoding.ids, tokenizer.eos_token_id]
            if len(row) >= ROW_TOKENS:
                yield row[:ROW_TOKENS]
                row = []


def new_model(tokenizer: PreTrainedTokenizerFast, hidden_size: int, num_layers: int) -> LlamaForCausalLM:
    torch.manual_seed(SEED)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=3 * hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            initializer_range=0.05,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by Newton-Schulz steps (K. Jordan, 2024); fp32, matrices of one shape at a time.

    torch.optim.Muon does the same in bf16, which a CPU is slow at.
    """

    def __init__(self, matrices: list[torch.nn.Parameter], lr: float) -> None:
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        by_shape: dict[torch.Size, list[torch.nn.Parameter]] = {}
        for matrix in self.param_groups[0]["params"]:
            by_shape.setdefault(matrix.shape, []).append(matrix)
        for matrices in by_shape.values():
            for matrix in matrices:
                self.state[matrix].setdefault("momentum", torch.zeros_like(matrix)).lerp_(matrix.grad, 0.05)
            update_NIO = torch.stack([m.grad.lerp(self.state[m]["momentum"], 0.95) for m in matrices])
            update_NIO = orthogonal(update_NIO) * max(1, update_NIO.shape[1] / update_NIO.shape[2]) ** 0.5
            for matrix, update_IO in zip(matrices, update_NIO, strict=True):
                matrix.add_(update_IO, alpha=-self.param_groups[0]["lr"])


def orthogonal(matrix_NIO: torch.Tensor) -> torch.Tensor:
    """Each matrix with its singular values brought close to one."""
    tall = matrix_NIO.shape[1] > matrix_NIO.shape[2]
    x_NIO = matrix_NIO.mT if tall else matrix_NIO
    x_NIO = x_NIO / (x_NIO.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a_NII = x_NIO @ x_NIO.mT
        x_NIO = 3.4445 * x_NIO + (-4.775 * a_NII + 2.0315 * a_NII @ a_NII) @ x_NIO
    return x_NIO.mT if tall else x_NIO


def pretrain(model: LlamaForCausalLM, batches: Iterator[list[int]], num_steps: int, rows_per_step: int) -> None:
    """Muon on the layers' matrices, AdamW on the rest; a short warm-up, then down to zero."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        Muon(matrices, lr=0.01),
        torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.98), weight_decay=0.0),
    ]

    def pace(step: int) -> float:
        return min((step + 1) / 30, 1.15 * (1 - step / num_steps), 1.0)

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, pace) for optimizer in optimizers]
    started = time.monotonic()
    for step in range(num_steps):
        ids_BT = torch.tensor(list(islice(batches, rows_per_step)))
        loss = model(input_ids=ids_BT, labels=ids_BT).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if step % 50 == 0 or step == num_steps - 1:
            assert math.isfinite(loss.item())
            seconds = time.monotonic() - started
            print(f"step {step:5}  loss {loss.item():.3f}  {seconds:.0f} s", file=sys.stderr, flush=True)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """The usual folder; weights as bf16, half the size of what they were trained in."""
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"  # name the class as every release of Transformers knows it
    settings = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "base")
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--rows-per-step", type=int, default=16)
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(2)
    texts = documents(SEED, held_out_answers())
    tokenizer = train_tokenizer([*islice(texts, 6000), *[lexicon()] * 100], options.vocab_size)
    model = new_model(tokenizer, options.hidden_size, options.layers)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", file=sys.stderr)
    pretrain(model, rows(texts, tokenizer), options.steps, options.rows_per_step)
    save(model, tokenizer, options.output)


if __name__ == "__main__":
    main()
