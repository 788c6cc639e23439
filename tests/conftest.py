"""What many tests need: a tokenizer trained here, tiny random models, rows of several tasks. No test needs a network."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads in contention are many times slower on tiny models

import hypothesis
import pytest

from weft.config.settings import Settings

# The same examples everywhere; a cold machine that is slow to make them is no failure.
hypothesis.settings.register_profile(
    "weft", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("weft")

SHARED = Path(__file__).resolve().parents[2] / "shared"

CORPUS = [
    "The weft is the thread that is woven across many others into one cloth.",
    "def add(a, b):\n    return a + b\n",
    "SELECT name FROM users WHERE age > 30;",
    "<s>system\nYou help.\n<s>human\nWhat is 7 times 6?\n<s>bot\nIt is 42.\n",
    "Grüße aus Köln! 你好，世界。 🙂 0123456789",
] * 20


def need_shared(*parts: str) -> Path:
    """A path below the shared assets, or a skip that says why."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs the shared assets ({'/'.join(parts)}), which are not on this machine")
    return path


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE of 400 tokens with ChatML's control tokens, and no chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "</s>", "pad_token": "<pad>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def _config(kind: str, vocab: int) -> Any:
    import transformers

    common: dict[str, Any] = {"vocab_size": vocab, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    llama_like = {
        **common,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    makers: dict[str, Callable[[], Any]] = {
        "llama": lambda: transformers.LlamaConfig(**llama_like),
        "llama-tied": lambda: transformers.LlamaConfig(**llama_like, tie_word_embeddings=True),
        "qwen2": lambda: transformers.Qwen2Config(**llama_like),
        "qwen3": lambda: transformers.Qwen3Config(**llama_like, head_dim=8),
        "mistral-sliding": lambda: transformers.MistralConfig(**llama_like, sliding_window=6),
        "gpt2": lambda: transformers.GPT2Config(
            **common, n_embd=32, n_layer=2, n_head=4, n_positions=512, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
        ),
        "gpt-neox": lambda: transformers.GPTNeoXConfig(**{k: v for k, v in llama_like.items() if "key_value" not in k}),
        "starcoder2": lambda: transformers.Starcoder2Config(**llama_like),
        "gemma": lambda: transformers.GemmaConfig(**llama_like, head_dim=8),
        "gemma2": lambda: transformers.Gemma2Config(**llama_like, head_dim=8, sliding_window=6),
        "granite": lambda: transformers.GraniteConfig(**llama_like, logits_scaling=4.0),
        "phi3": lambda: transformers.Phi3Config(**llama_like),
        "falcon": lambda: transformers.FalconConfig(
            **common, hidden_size=32, num_hidden_layers=2, num_attention_heads=4
        ),
    }
    return makers[kind]()


@pytest.fixture(scope="session")
def model_folder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a kind of model to a folder with a tiny random one and the tokenizer."""
    made: dict[str, Path] = {}

    def make(kind: str = "llama") -> Path:
        if kind not in made:
            import shutil

            import torch
            from transformers import AutoModelForCausalLM

            folder = tmp_path_factory.mktemp(kind)
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(_config(kind, 400))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.normal_(0, 0.2 if parameter.ndim > 1 else 0.5)
            model.save_pretrained(folder)
            for file in tokenizer_folder.iterdir():
                shutil.copyfile(file, folder / file.name)
            made[kind] = folder
        return made[kind]

    return make


ROWS: dict[str, list[dict[str, Any]]] = {
    "sums": [
        {"prompt": f"What is {i} plus {i + 1}?", "answer": f"It is {2 * i + 1}." * (1 + i % 3)} for i in range(14)
    ],
    "chat": [
        {
            "messages": [
                {"role": "system", "content": "You help."},
                {"role": "user", "content": f"Hello {i}"},
                {"role": "assistant", "content": "你好 🙂" * (1 + i % 2), **({"weight": 0.5} if i % 3 == 0 else {})},
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": "y" * (1 + i)},
            ]
        }
        for i in range(5)
    ],
    "one": [
        {"instruction": "Say one.", "input": "", "output": "1"},
        {"instruction": "Say two.", "input": "b", "output": "2"},
    ],
}


@pytest.fixture
def task_files(tmp_path: Path) -> dict[str, str]:
    """Three tasks of very different size, each in a format of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, rows in ROWS.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return {name: str(folder / f"{name}.jsonl") for name in ROWS}


@pytest.fixture
def make_settings(
    tmp_path: Path, task_files: dict[str, str], model_folder: Callable[[str], Path]
) -> Callable[..., Settings]:
    """Settings of a small run; keyword sections are laid over the defaults."""

    def make(kind: str = "llama", **sections: Any) -> Settings:
        values: dict[str, Any] = {
            "model": {"base": str(model_folder(kind))},
            "adapter": {"kind": "lora", "rank": 4, "alpha": 8},
            "tasks": {
                "sums": {"path": task_files["sums"], "weight": 2.0},
                "chat": task_files["chat"],
                "one": task_files["one"],
            },
            "template": "mftcoder",
            "data": {"max_tokens": 256, "validation": 0.0, "cache": str(tmp_path / "cache")},
            "mixture": {"epochs": 1},
            "batch": {"tokens_per_step": 4096, "tokens_per_micro_batch": 256},
            "optimizer": {"lr": 0.01, "warmup": 0},
            "validate": {"every": 2},
            "save": {"every": 2},
            "engine": {"device": "cpu", "threads": 1},
            "output": str(tmp_path / "run"),
        }
        for name, section in sections.items():
            old = values.get(name)
            values[name] = (
                {**old, **section}
                if isinstance(old, dict) and isinstance(section, dict) and name != "tasks"
                else section
            )
        return Settings.model_validate(values)

    return make
