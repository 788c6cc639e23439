"""Makes what all contenders share: conversations from real rows (or made-up ones), their text, the tokenizer's folder.

Real rows are taken once each; where more are asked for, two rows of one source make a conversation of two turns, so that no
text is there twice. Rows that spell a control token, are empty, or come near the length limit are left out: what a system does
with those is not what is measured here.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from protocol import CHATML, IM_END, IM_START
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

Messages = list[dict[str, str]]
MARGIN = 64
"""Tokens below the limit: the same text can be a few tokens longer where it is encoded in parts."""
END_MARK = "<|endoftext|>"
SHARED_BASE = {"qwen": "tokenizers/qwen", "llama2": "tokenizers/llama2"}


def turns(*texts: str) -> Messages:
    """A conversation in which user and assistant alternate."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def columns(question: str, answer: str) -> Callable[[dict[str, Any]], Messages]:
    """Rows with a column of each."""
    return lambda row: turns(row[question], row[answer].removesuffix(END_MARK))


def alpaca(row: dict[str, Any]) -> Messages:
    """instruction, input, output."""
    return turns("\n".join(filter(None, (row["instruction"], row.get("input")))), row["output"])


def sharegpt(row: dict[str, Any]) -> Messages:
    """from/value turns."""
    return turns(*(turn["value"] for turn in row["conversations"]))


def dialogue(row: dict[str, Any]) -> Messages:
    """Schema-Guided Dialogue: the user begins, and both alternate."""
    return turns(*(turn["utterance"] for turn in row["turns"]))


SOURCES: tuple[tuple[str, Callable[[dict[str, Any]], Messages]], ...] = (
    ("code_instruct/*.json", alpaca),
    ("general_en/alpaca*.json", alpaca),
    ("general_zh/*.json", alpaca),
    ("text2sql/*alpaca*.json", alpaca),
    ("text2sql/example*.json", alpaca),
    ("math/gsm8k_t*.jsonl", columns("question", "answer")),
    ("t0_tasks/*.jsonl", columns("prompt", "completion")),
    ("nl2code/concode*.json", columns("nl", "code")),
    ("nl2code/mbpp.jsonl", columns("text", "code")),
    ("code_trans/*.jsonl", columns("prompt", "canonical_solution")),
    ("code_search/*.json", columns("doc", "code")),
    ("classification/*.jsonl", columns("question", "intent")),
    ("multiturn/dummy*.json", sharegpt),
    ("multiturn/sgd*.json", dialogue),
)


def real_sources(shared: Path) -> Iterator[list[Messages]]:
    """The conversations of each source in the shared folder."""
    data = shared / "data"
    for pattern, convert in SOURCES:
        found = [convert(row) for file in sorted(data.glob(pattern)) for row in read(file)]
        if found:
            yield found
    comments, code = data / "code_comment" / "django_all.anno", data / "code_comment" / "django_all.code"
    if comments.is_file() and code.is_file():
        pairs = zip(comments.read_text("utf-8").split("\n"), code.read_text("utf-8").split("\n"), strict=False)
        yield [turns(f"Comment this line of Python:\n{line}", comment.strip()) for comment, line in pairs]


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSON array, or of one object a line."""
    text = file.read_text("utf-8")
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def made_sources(number: int) -> Iterator[list[Messages]]:
    """Conversations for when there are no real ones: made-up words, as unevenly frequent as real ones, in four tasks."""
    draw = random.Random(0)
    syllables = [a + b for a in ("b", "d", "f", "k", "l", "m", "n", "r", "s", "t", "st", "pr") for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(20_000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    drawn = iter(draw.choices(words, weights, k=number * 200))
    for task in range(4):
        found = []
        for _ in range(number // 4 + 1):
            question = [next(drawn) for _ in range(draw.randint(5, 120))]
            answer = [next(drawn) for _ in range(draw.randint(1, 70))]
            marks = (" ".join(question) + "?", f"Task {task}: {', '.join(question)}.", "\n".join(question))
            found.append(turns(marks[task % 3], " ".join(answer).capitalize() + "."))
        yield found


def distinct(sources: list[list[Messages]], number: int) -> tuple[list[Messages], int]:
    """So many different conversations in random order, and how many of them had to be made of two rows each."""
    draw, seen, found = random.Random(0), set(), []

    def add(messages: Messages) -> None:
        key = render(messages)
        plain = all(token not in m["content"] for m in messages for token in ("<|", "<s>", "</s>"))
        if plain and all(m["content"].strip() for m in messages) and len(messages) % 2 == 0 and key not in seen:
            seen.add(key)
            found.append(messages)

    singles = [(messages, source) for source in sources for messages in source]
    draw.shuffle(singles)
    for messages, _ in singles:
        if len(found) == number:
            return found, 0
        add(messages)
    alone = len(found)
    for _ in range(20):
        for messages, source in singles:
            if len(found) == number:
                draw.shuffle(found)
                return found, number - alone
            add([*messages, *draw.choice(source)])
    raise SystemExit(f"only {len(found)} different rows could be made; ask for fewer with --rows")


def render(messages: Messages) -> str:
    """The conversation as ChatML."""
    return "".join(f"{IM_START}{m['role']}\n{m['content']}{IM_END}\n" for m in messages)


def trained_tokenizer(texts: list[str]) -> Tokenizer:
    """A byte-level BPE of 8000 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=8000, special_tokens=[END_MARK], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts[:5000], trainer)
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, work: Path) -> None:
    """The tokenizer with ChatML's tokens and template, alone and beside a config.json."""
    missing = [token for token in (IM_START, IM_END) if tokenizer.token_to_id(token) is None]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in missing])
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": IM_END,
        "pad_token": IM_END if tokenizer.token_to_id(END_MARK) is None else END_MARK,
        "chat_template": CHATML,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 20,
    }
    for folder in (work / "tokenizer", work / "model"):
        folder.mkdir()
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    (work / "model" / "config.json").write_text(
        json.dumps(
            {"model_type": "llama", "max_position_embeddings": 1 << 20, "vocab_size": tokenizer.get_vocab_size()}
        )
    )


def main() -> None:
    """Fill the work folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--max-tokens", type=int, required=True)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--tokenizer", help="qwen, llama2, or a folder")
    args = parser.parse_args()
    sources = list(real_sources(args.shared)) if args.shared else list(made_sources(args.rows))
    rows, joined = distinct(sources, args.rows + args.rows // 50)
    folder = args.shared / SHARED_BASE[args.tokenizer] if args.tokenizer in SHARED_BASE else args.tokenizer
    texts = [render(messages) for messages in rows]
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json") if folder else trained_tokenizer(texts)
    write_tokenizer(tokenizer, args.work)
    lengths = [len(one.ids) for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    kept = [i for i, length in enumerate(lengths) if length <= args.max_tokens - MARGIN][: args.rows]
    with (args.work / "rows.jsonl").open("w", encoding="utf-8") as file:
        for i in kept:
            file.write(json.dumps({"messages": rows[i]}, ensure_ascii=False) + "\n")
    (args.work / "texts.json").write_text(json.dumps([texts[i] for i in kept], ensure_ascii=False), "utf-8")
    about = {
        "rows": len(kept),
        "of_two_rows": joined,
        "multiturn": sum(len(rows[i]) > 2 for i in kept),
        "tokens": sum(lengths[i] for i in kept),
        "longest": max(lengths[i] for i in kept),
        "bytes": (args.work / "rows.jsonl").stat().st_size,
    }
    (args.work / "about.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main()
