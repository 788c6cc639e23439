"""Make the quickstart's five tasks: training rows in five native formats, and held-out prompts with their answers.

    python examples/quickstart/make_data.py

A task is a function from a random generator to a conversation. Held-out conversations come from the same function; none
has a prompt that occurs in training, and (but for `chat`, whose short answers recur) none has an answer that does.
The same seed gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import world

HERE = Path(__file__).resolve().parent
SEED = 17
NUM_HELD_OUT = 40

Conversation = list[tuple[str, str]]
"""Turns of (role, content), roles as in the `messages` format."""


def sql(rng: Random) -> Conversation:
    """A question in English, answered by SQL."""
    query = world.draw_query(rng)
    table, columns = query.table, " and ".join(query.columns)
    signs = {"=": "", ">": "over ", "<": "under "}
    where = " and ".join(f"{c.column} {signs[c.sign]}{c.value}" for c in query.conditions)
    scope = f" with {where}" if where else ""
    if query.kind == "rows":
        question = rng.choice(
            [f"Show the {columns} of every {table.one}{scope}.", f"List the {columns} of {table.many}{scope}."]
        )
    elif query.kind == "count":
        question = rng.choice([f"How many {table.many} are there{scope}?", f"Count the {table.many}{scope}."])
    elif query.kind == "aggregate":
        word = {"AVG": "average", "MAX": "highest", "MIN": "lowest", "SUM": "total"}[query.function]
        question = f"What is the {word} {columns} of {table.many}{scope}?"
    else:
        word = "highest" if query.descending else "lowest"
        question = f"Which {query.limit} {table.many}{scope} come first by {word} {query.order}?"
    return [("user", question), ("assistant", query.sql)]


def translate(rng: Random) -> Conversation:
    """An English sentence, answered in Spanish."""
    sentence = world.draw_sentence(rng)
    ask = rng.choice(["Translate into Spanish:", "Say this in Spanish:"])
    return [
        ("user", f"{ask} {world.as_sentence(sentence.english)}"),
        ("assistant", world.as_sentence(sentence.spanish)),
    ]


def tests(rng: Random) -> Conversation:
    """A function and an example of it in words, answered by the line of a test."""
    case = world.draw_case(rng)
    given = " and ".join(f"{value} for {name}" for name, value in zip(case.parameters, case.arguments, strict=True))
    ending = rng.choice(
        [f"Given {given}, it returns {case.result}.", f"It should return {case.result} when given {given}."]
    )
    signature = f"def {case.function}({', '.join(case.parameters)})"
    return [("user", f"Write a test for this function.\n{signature}\n{ending}"), ("assistant", case.test)]


def extract(rng: Random) -> Conversation:
    """A sentence about an order, answered by its fields in JSON, the date in ISO form."""
    order = world.draw_order(rng)
    count = world.NUMBER_WORDS[order.count - 2] if rng.random() < 0.5 else str(order.count)
    date = rng.choice([order.date.long, order.date.american])
    sentence = rng.choice([
        f"{order.name} from {order.city} ordered {count} {order.goods} on {date}.",
        f"On {date} we sent {count} {order.goods} to {order.name} in {order.city}.",
        f"Our shop in {order.city} sold {count} {order.goods} to {order.name} on {date}.",
    ])  # fmt: skip
    return [("user", f"Extract the order as JSON: {sentence}"), ("assistant", order.json)]


def chat(rng: Random) -> Conversation:
    """Two or three turns with the assistant of a house to visit, who knows its facts and the visitor's name."""
    house = world.draw_house(rng)
    visitor, assistant = rng.sample(world.NAMES, 2)
    system = (
        f"You are {assistant}, the assistant of the {house.kind} in {house.city}. It opens at {house.opens}, "
        f"closes at {house.closes}, and a ticket costs {house.price} euros."
    )
    hello = rng.choice([f"Hello, my name is {visitor}.", f"Hi, I am {visitor}."])
    turns = [("system", system), ("user", hello), ("assistant", f"Hello {visitor}, I am {assistant}. How can I help?")]
    answers = {
        ("When do you open?", "What time can I come in?"): f"We open at {house.opens}, {visitor}.",
        ("When do you close?", "How late can I stay?"): f"We close at {house.closes}, {visitor}.",
        ("How much is a ticket?", "What do I have to pay?"): f"A ticket costs {house.price} euros, {visitor}.",
    }
    for questions in rng.sample([*answers], rng.choice([1, 2])):
        turns += [("user", rng.choice(questions)), ("assistant", answers[questions])]
    return turns


TASKS: dict[str, tuple[Callable[[Random], Conversation], int]] = {
    "sql": (sql, 2400),
    "translate": (translate, 1200),
    "tests": (tests, 700),
    "extract": (extract, 400),
    "chat": (chat, 200),
}
"""Each task's function and its number of training rows."""


def draw_task(name: str) -> tuple[list[Conversation], list[Conversation]]:
    """A task's training and held-out conversations, all prompts different."""
    draw, num_rows = TASKS[name]
    rng = Random(f"{SEED} {name}")
    prompts: set[str] = set()
    answers: set[str] = set()
    train: list[Conversation] = []
    held_out: list[Conversation] = []
    while len(held_out) < NUM_HELD_OUT:
        conversation = draw(rng)
        prompt, answer = json.dumps(conversation[:-1]), conversation[-1][1]
        training = len(train) < num_rows
        if prompt in prompts or (not training and answer in answers and name != "chat"):
            continue
        prompts.add(prompt)
        answers.add(answer)
        (train if training else held_out).append(conversation)
    return train, held_out


def as_messages(conversation: Conversation) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in conversation]}


def as_chat_rounds(conversation: Conversation) -> dict[str, object]:
    names = {"system": "system", "user": "human", "assistant": "bot"}
    return {"chat_rounds": [{"role": names[role], "content": content} for role, content in conversation]}


def as_pair(conversation: Conversation, prompt: str, answer: str) -> dict[str, object]:
    return {prompt: conversation[0][1], answer: conversation[1][1]}


def as_alpaca(conversation: Conversation) -> dict[str, object]:
    """Alpaca's three fields; a reader puts a line break between instruction and input."""
    instruction, material = conversation[0][1].split("\n", 1)
    return {"instruction": instruction, "input": material, "output": conversation[1][1]}


def jsonl(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    train, held_out = {}, {}
    for name in TASKS:
        train[name], held_out[name] = draw_task(name)
    files = {
        "sql/questions.jsonl.gz": jsonl([as_chat_rounds(c) for c in train["sql"]]),
        "translate/spanish.jsonl": jsonl([as_pair(c, "prompt", "answer") for c in train["translate"]]),
        "tests/alpaca.json": json.dumps([as_alpaca(c) for c in train["tests"]], indent=1) + "\n",
        "extract/orders.jsonl": jsonl([as_pair(c, "question", "response") for c in train["extract"]]),
        "chat/visitors.jsonl": jsonl([as_messages(c) for c in train["chat"]]),
    }
    for path, text in files.items():
        write(HERE / "data" / path, text)
    for name, conversations in held_out.items():
        write(HERE / "held_out" / f"{name}.jsonl", jsonl([as_messages(c) for c in conversations]))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


if __name__ == "__main__":
    main()
