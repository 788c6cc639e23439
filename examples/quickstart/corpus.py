"""The plain text that the quickstart's base model is pretrained on: the same world as the tasks', in other words.

Cards of SQL, glossaries, notes beside asserts, records and dates, guides to houses, lists to copy and sort. No role
markers, none of the tasks' prompts, and no answer of a held-out prompt: a card that holds one is thrown away.
"""

# ruff: noqa: SIM905  (lists of words read best as text)
from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import world

PLAIN = (
    "a about after all an and answer are as assistant at back be because before but by call called can come could "
    "day did do does English every extract few find first for from function get given give go good had has have "
    "hello help here hi his how human I if in into is it its know last late like line list little long make many "
    "may me my name new no not now of on one only or order ordered our out over part pay question read return "
    "returns right said say see sent she shop should show small so sold some Spanish JSON stay such system take "
    "test than thank that the their them then there these they thing this time to translate two under up us use "
    "very want was way we well were what when where which who will with word work would write year you your bot"
).split()
"""Common words, so that the base model does not spell ordinary English letter by letter."""


def lexicon() -> str:
    """Every word that should be one token: at a line's start (or after a sign), after a space, or both."""
    both = [*world.NAMES, *world.CITIES, *world.GOODS, *world.WORDS, *world.ARGUMENTS]
    first = [*both, *world.OBJECTS, *world.ACTIONS, *(word.capitalize() for word in PLAIN)]
    first += "human bot system name goods count city date".split()
    nouns = world.PEOPLE + world.THINGS + world.PLACES
    after = [*both, *PLAIN, *world.MONTHS, *world.NUMBER_WORDS, *world.HOUSES]
    after += [word for noun in nouns for plural in (False, True) for word in noun.forms(plural)]
    after += [form for pair in {**world.ADJECTIVES, **world.MOODS}.items() for form in pair]
    after += [form.replace("_", " ") for pair in world.VERBS.items() for form in " ".join(pair).split()]
    return " " + " ".join(after) + "".join(f"\n{word}" for word in first)


def query_card(rng: Random) -> tuple[str, str]:
    """A query in terse notes, then its SQL."""
    query = world.draw_query(rng)
    signs = rng.choice([
        {"=": "is", ">": "above", "<": "below"},
        {"=": "=", ">": ">", "<": "<"},
        {"=": "", ">": "over", "<": "under"},
    ])  # fmt: skip
    conditions = ", ".join(" ".join(f"{c.column} {signs[c.sign]} {c.value}".split()) for c in query.conditions)
    columns = ", ".join(query.columns)
    if query.kind == "count":
        goal = rng.choice(["number of rows", f"count {query.table.many}", "count"])
    elif query.kind == "aggregate":
        words = {"AVG": "mean average", "MAX": "largest highest", "MIN": "smallest lowest", "SUM": "sum total"}
        goal = f"{rng.choice(words[query.function].split())} {columns}"
    elif query.kind == "top":
        word = rng.choice(["largest", "highest"] if query.descending else ["smallest", "lowest"])
        goal = rng.choice(
            [f"{columns}, {query.limit} of {word} {query.order}", f"{query.limit} by {word} {query.order}"]
        )
    else:
        goal = rng.choice([columns, f"{columns} of {query.table.many}"])
    note = rng.choice(["-- {t} / {g} / {c}", "# {g} from {t}; {c}", "{t}: {g} [{c}]"])
    return note.format(t=rng.choice([query.table.name, query.table.many]), g=goal, c=conditions or "all"), query.sql


def gloss(rng: Random) -> tuple[str, str]:
    """A word, a phrase or a sentence in English, then in Spanish."""
    kind = rng.choice(["noun", "adjective", "verb", "place", "phrase", "phrase", "sentence", "sentence", "sentence"])
    if kind == "noun":
        return rng.choice(world.PEOPLE + world.THINGS + world.PLACES).forms(plural=rng.random() < 0.3)
    if kind == "adjective":
        word = rng.choice([*world.ADJECTIVES, *world.MOODS])
        return word, {**world.ADJECTIVES, **world.MOODS}[word]
    if kind == "verb":
        verb, form = rng.choice([*world.VERBS]), rng.randrange(4)
        return verb.split()[(1, 0, 2, 2)[form]].replace("_", " "), world.VERBS[verb].split()[form]
    if kind == "place":
        phrase = world.draw_place(rng)
    elif kind == "phrase":
        nouns, adjectives = rng.choice([(world.PEOPLE, world.MOODS), (world.THINGS, world.ADJECTIVES)])
        phrase = world.draw_noun_phrase(rng, nouns, adjectives)
    else:
        phrase = world.draw_sentence(rng)
        if rng.random() < 0.5:
            return world.as_sentence(phrase.english), world.as_sentence(phrase.spanish)
    return phrase.english, phrase.spanish


def assert_card(rng: Random) -> tuple[str, str]:
    """What a call gives, then the assert that says so."""
    case = world.draw_case(rng)
    named = ", ".join(f"{name}={value}" for name, value in zip(case.parameters, case.arguments, strict=True))
    note = rng.choice([
        f"# {case.function}: {named} -> {case.result}",
        f"# {case.result} is what {case.function} makes of {', '.join(case.arguments)}",
        f">>> {case.function}({named})\n{case.result}",
    ])  # fmt: skip
    return note, case.test


def record(rng: Random) -> tuple[str, str]:
    """A line of fields, then the same fields as JSON with keys of its own."""
    order = world.draw_order(rng)
    count = rng.choice([world.NUMBER_WORDS[order.count - 2], str(order.count)])
    date = rng.choice([order.date.long, order.date.american])
    fields = [
        (rng.choice(["who", "buyer"]), order.name, f'"{order.name}"'),
        (rng.choice(["what", "item"]), order.goods, f'"{order.goods}"'),
        (rng.choice(["pieces", "number"]), count, str(order.count)),
        (rng.choice(["where", "town"]), order.city, f'"{order.city}"'),
        (rng.choice(["when", "day"]), date, f'"{order.date.iso}"'),
    ]
    line = "; ".join(text for _, text, _ in rng.sample(fields, len(fields)))
    chosen = fields if rng.random() < 0.5 else rng.sample(fields, rng.randint(2, 4))
    return line, "{" + ", ".join(f'"{key}": {value}' for key, _, value in chosen) + "}"


def conversion(rng: Random) -> tuple[str, str]:
    """A date in words, then in ISO form; or a number in words, then in digits."""
    if rng.random() < 0.2:
        index = rng.randrange(len(world.NUMBER_WORDS))
        return world.NUMBER_WORDS[index], str(index + 2)
    date = world.draw_date(rng)
    return rng.choice([date.long, date.american]), date.iso


def guide(rng: Random) -> tuple[str, str]:
    """A house in a travel guide, then some of its facts."""
    house, (keeper, guest) = world.draw_house(rng), rng.sample(world.NAMES, 2)
    facts = [
        (f"It opens at {house.opens}", f"The {house.kind} opens at {house.opens}, says {keeper}."),
        (f"closes at {house.closes}", f"The {house.kind} closes at {house.closes}, says {keeper}."),
        (f"a ticket costs {house.price} euros", f"A ticket costs {house.price} euros, {guest} reads."),
        (f"keeper {keeper}", f"Hello {guest}, says {keeper}."),
    ]
    notes = ", ".join(note for note, _ in rng.sample(facts, 4))
    told = " ".join(fact for _, fact in rng.sample(facts, 3))
    return f"The {house.kind} in {house.city}: {notes}; guest {guest}.", told


def exercise(rng: Random) -> tuple[str, str]:
    """A list, then the list copied, reversed or sorted; or a small sum."""
    if rng.random() < 0.15:
        a, b = rng.randint(0, 20), rng.randint(0, 20)
        return f"{a} + {b}", str(a + b)
    numbers = [str(n) for n in range(2, 3000)]
    plain = [word if rng.random() < 0.7 else word.capitalize() for word in PLAIN]
    pool = rng.choice([world.NAMES, world.CITIES, world.WORDS, world.GOODS, numbers, plain, plain])
    items = rng.sample(pool, rng.randint(2, 6))
    kind, answer = rng.choice([("again", items), ("again", items), ("last first", items[::-1]), ("first", items[:1])])
    if pool is world.NAMES and kind == "last first":
        kind, answer = "sorted", sorted(items)
    between = rng.choice([" ", ", "])
    return f"{between.join(items)} ({kind})", between.join(answer)


CARDS: dict[Callable[[Random], tuple[str, str]], float] = {
    query_card: 0.27,
    gloss: 0.26,
    assert_card: 0.14,
    record: 0.12,
    conversion: 0.05,
    guide: 0.08,
    exercise: 0.08,
}
"""The kinds of cards, with their shares of the documents."""


def documents(seed: int, forbidden: set[str]) -> Iterator[str]:
    """Endless documents of two to eight cards of one kind, none with an answer in `forbidden`."""
    rng = Random(f"{seed} corpus")
    while True:
        (card,) = rng.choices([*CARDS], [*CARDS.values()])
        between = rng.choice(["\n", "\n", " = "]) if card in (gloss, conversion, exercise) else "\n"
        cards = [card(rng) for _ in range(rng.randint(3, 8) if card not in (guide, record) else rng.randint(2, 3))]
        yield "\n".join(
            question + between + answer
            for question, answer in cards
            if not {answer, world.as_sentence(answer)} & forbidden
        )
