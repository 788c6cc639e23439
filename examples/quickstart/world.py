"""The small closed world that the quickstart speaks of: tables, a piece of Spanish, functions, orders, houses to visit.

Here is only what things *are* (a query and its SQL, a sentence and its translation, …). How a task asks for them is in
make_data.py; how the base model first meets them is in corpus.py. Keeping the three apart is the point of the
quickstart: the base model knows the material but has never seen a task, and tuning has only to teach it the tasks.

Every `draw_…` is a pure function of the random generator it is given.
"""

# ruff: noqa: SIM905  (lists of words read best as text)
from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

NAMES = (
    "Ada Alma Anton Bela Bruno Carla Cora Dario Diego Edda Elena Emil Fabio Flora Greta Hugo Ida Ines Ivo Jana Jonas "
    "Julia Karim Lara Leo Lina Luca Mara Marek Mia Milo Nadia Nils Nora Olga Omar Otto Paula Petra Pia Rosa Ruben "
    "Samir Sara Selma Simon Sofia Tara Theo Tomas Una Vera Viktor Yara Zoe"
).split()
CITIES = (
    "Accra Athens Basel Bergen Bilbao Cairo Cork Dakar Delft Dublin Geneva Ghent Havana Hanoi Kyoto Lagos Leeds Lima "
    "Lisbon Lyon Madrid Malta Nantes Oslo Perth Porto Prague Quito Riga Rome Seoul Split Tunis Turin Vienna Zagreb"
).split()
MONTHS = "January February March April May June July August September October November December".split()
NUMBER_WORDS = "two three four five six seven eight nine ten eleven twelve".split()


# ---------------------------------------------------------------- tables and queries


@dataclass(frozen=True)
class Table:
    """A table: its name, one row and many rows in English, its key column, text columns and number columns."""

    name: str
    one: str
    many: str
    key: str
    texts: dict[str, list[str]]
    numbers: dict[str, range]

    @property
    def columns(self) -> list[str]:
        return [self.key, *self.texts, *self.numbers]


TEAMS = "sales design support legal research finance".split()
GENRES = "poetry travel history crime fantasy cooking".split()
COLOURS = "red blue green black white yellow".split()
LINES = "Nordair Aerolux Condora Skylark Zephyra".split()
STYLES = "jazz folk rock tango soul opera".split()
TABLES = [
    Table("staff", "worker", "workers", "name", {"city": CITIES, "team": TEAMS},
          {"age": range(20, 66), "salary": range(2000, 7000, 100)}),
    Table("books", "book", "books", "title", {"author": NAMES, "genre": GENRES},
          {"year": range(1950, 2026), "pages": range(60, 900, 10)}),
    Table("flights", "flight", "flights", "code", {"city": CITIES, "airline": LINES},
          {"seats": range(40, 400, 5), "price": range(30, 900, 5)}),
    Table("songs", "song", "songs", "title", {"artist": NAMES, "style": STYLES},
          {"year": range(1950, 2026), "plays": range(100, 9900, 100)}),
    Table("cars", "car", "cars", "plate", {"owner": NAMES, "colour": COLOURS},
          {"age": range(1, 30), "price": range(500, 9900, 100)}),
    Table("houses", "house", "houses", "street", {"city": CITIES, "owner": NAMES},
          {"rooms": range(2, 13), "rent": range(300, 3000, 50)}),
]  # fmt: skip


@dataclass(frozen=True)
class Condition:
    column: str
    sign: str
    value: str

    @property
    def sql(self) -> str:
        return f"{self.column} {self.sign} " + (self.value if self.value.isdigit() else f"'{self.value}'")


@dataclass(frozen=True)
class Query:
    """A question to one table: rows (`columns`), a count, an aggregate of `columns[0]`, the top `limit` by `order`."""

    table: Table
    kind: str
    columns: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    function: str = ""
    order: str = ""
    descending: bool = False
    limit: int = 0

    @property
    def sql(self) -> str:
        what = {"count": "COUNT(*)", "aggregate": f"{self.function}({''.join(self.columns)})"}.get(
            self.kind, ", ".join(self.columns)
        )
        where = " AND ".join(condition.sql for condition in self.conditions)
        order = f" ORDER BY {self.order}{' DESC' if self.descending else ''} LIMIT {self.limit}" if self.limit else ""
        return f"SELECT {what} FROM {self.table.name}{' WHERE ' + where if where else ''}{order};"


def draw_condition(rng: Random, table: Table, column: str) -> Condition:
    if column in table.texts:
        return Condition(column, "=", rng.choice(table.texts[column]))
    return Condition(column, rng.choice("><"), str(rng.choice(table.numbers[column])))


def draw_query(rng: Random) -> Query:
    table = rng.choice(TABLES)
    filters = rng.sample([*table.texts, *table.numbers], rng.choice([1, 1, 2]))
    conditions = tuple(draw_condition(rng, table, column) for column in filters)
    kind = rng.choice(["rows", "rows", "count", "aggregate", "top"])
    if kind == "rows":
        columns = sorted(rng.sample(table.columns, rng.choice([1, 1, 2])), key=table.columns.index)
        return Query(table, kind, tuple(columns), conditions)
    if kind == "count":
        return Query(table, kind, conditions=conditions)
    if kind == "aggregate":
        column, function = rng.choice([*table.numbers]), rng.choice(["AVG", "MAX", "MIN", "SUM"])
        return Query(table, kind, (column,), conditions[:1], function=function)
    order, limit = rng.choice([*table.numbers]), rng.randint(2, 9)
    some = conditions[:1] if rng.random() < 0.5 else ()
    return Query(table, kind, (table.key,), some, order=order, descending=rng.random() < 0.5, limit=limit)


# ---------------------------------------------------------------- a piece of Spanish


@dataclass(frozen=True)
class Noun:
    english: str
    spanish: str
    feminine: bool
    english_plural: str = ""

    def forms(self, plural: bool) -> tuple[str, str]:
        """English and Spanish in the number asked for."""
        if not plural:
            return self.english, self.spanish
        return self.english_plural or self.english + "s", self.spanish + ("s" if self.spanish[-1] in "aeoé" else "es")


def _nouns(text: str) -> list[Noun]:
    """Nouns from `english=spanish` words; a leading `*` marks a feminine one, `child/children` an odd plural."""
    nouns = []
    for word in text.split():
        english, spanish = word.lstrip("*").split("=")
        one, _, many = english.partition("/")
        nouns.append(Noun(one, spanish, word.startswith("*"), many))
    return nouns


PEOPLE = _nouns(
    "dog=perro cat=gato *girl=niña boy=niño *teacher=maestra doctor=médico brother=hermano *sister=hermana "
    "*friend=amiga neighbour=vecino *grandmother=abuela *queen=reina king=rey cook=cocinero *nurse=enfermera"
)
THINGS = _nouns(
    "*house=casa book=libro *table=mesa *chair=silla car=coche *letter=carta clock=reloj cheese=queso *apple=manzana "
    "shoe=zapato hat=sombrero *shirt=camisa *door=puerta *key=llave *flower=flor tree=árbol *box/boxes=caja "
    "glass/glasses=vaso *lamp=lámpara *boat=barca"
)
PLACES = _nouns(
    "garden=jardín *kitchen=cocina river=río *street=calle market=mercado *school=escuela bridge=puente *beach=playa "
    "*station=estación forest=bosque"
)
ADJECTIVES = dict(
    word.split("=")
    for word in (
        "red=rojo black=negro white=blanco yellow=amarillo small=pequeño big=grande green=verde old=viejo "
        "new=nuevo pretty=bonito heavy=pesado expensive=caro cheap=barato clean=limpio blue=azul strange=raro"
    ).split()
)
MOODS = dict(
    word.split("=") for word in "tall=alto tired=cansado happy=alegre young=joven kind=amable poor=pobre".split()
)
VERBS = {  # English plain, third person, past; Spanish singular, plural, past singular, past plural
    "see sees saw": "ve ven vio vieron",
    "buy buys bought": "compra compran compró compraron",
    "sell sells sold": "vende venden vendió vendieron",
    "look_for looks_for looked_for": "busca buscan buscó buscaron",
    "find finds found": "encuentra encuentran encontró encontraron",
    "paint paints painted": "pinta pintan pintó pintaron",
    "wash washes washed": "lava lavan lavó lavaron",
    "carry carries carried": "lleva llevan llevó llevaron",
    "lose loses lost": "pierde pierden perdió perdieron",
    "want wants wanted": "quiere quieren quiso quisieron",
    "break breaks broke": "rompe rompen rompió rompieron",
    "clean cleans cleaned": "limpia limpian limpió limpiaron",
}
PREPOSITIONS = {"in": "en", "near": "cerca de", "behind": "detrás de"}
PLURAL_ONLY = {"two": "dos", "three": "tres", "four": "cuatro", "five": "cinco"}
#   English determiner, singular and plural, with Spanish masculine, feminine, masculine plural, feminine plural
DETERMINERS = {
    ("the", "the"): "el la los las",
    ("this", "these"): "este esta estos estas",
    ("my", "my"): "mi mi mis mis",
    ("a", ""): "un una - -",
}


@dataclass(frozen=True)
class Phrase:
    english: str
    spanish: str
    plural: bool = False


def agree(adjective: str, feminine: bool, plural: bool) -> str:
    """A Spanish adjective in the noun's gender and number."""
    if adjective == "joven":
        return "jóvenes" if plural else adjective
    if adjective.endswith("o") and feminine:
        adjective = adjective[:-1] + "a"
    return adjective + (("s" if adjective[-1] in "aeo" else "es") if plural else "")


def draw_noun_phrase(rng: Random, nouns: list[Noun], adjectives: dict[str, str]) -> Phrase:
    noun, plural = rng.choice(nouns), rng.random() < 0.4
    if plural and rng.random() < 0.3:
        determiner = rng.choice([*PLURAL_ONLY.items()])
    else:
        pair = rng.choice([key for key in DETERMINERS if key[plural]])
        determiner = pair[plural], DETERMINERS[pair].split()[2 * plural + noun.feminine]
    english, spanish = noun.forms(plural)
    if rng.random() < 0.6:
        adjective = rng.choice([*adjectives])
        english, spanish = f"{adjective} {english}", f"{spanish} {agree(adjectives[adjective], noun.feminine, plural)}"
    if determiner[0] == "a" and english[0] in "aeio":
        determiner = "an", determiner[1]
    return Phrase(f"{determiner[0]} {english}", f"{determiner[1]} {spanish}", plural)


def draw_place(rng: Random) -> Phrase:
    preposition, place = rng.choice([*PREPOSITIONS]), rng.choice(PLACES)
    article = "la" if place.feminine else "el"
    spanish = f"{PREPOSITIONS[preposition]} {article} {place.spanish}".replace("de el ", "del ")
    return Phrase(f"{preposition} the {place.english}", spanish)


def draw_sentence(rng: Random) -> Phrase:
    """Someone does something to a thing, perhaps somewhere, in the present or in the past."""
    subject, thing = draw_noun_phrase(rng, PEOPLE, MOODS), draw_noun_phrase(rng, THINGS, ADJECTIVES)
    verb, past = rng.choice([*VERBS]), rng.random() < 0.4
    english = verb.split()[2 if past else 0 if subject.plural else 1].replace("_", " ")
    spanish = VERBS[verb].split()[2 * past + subject.plural]
    place = draw_place(rng) if rng.random() < 0.35 else None
    return Phrase(
        " ".join([subject.english, english, thing.english, *([place.english] if place else [])]),
        " ".join([subject.spanish, spanish, thing.spanish, *([place.spanish] if place else [])]),
    )


def as_sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


# ---------------------------------------------------------------- functions and their tests

ACTIONS = "count find sort join split check merge round clean swap trim parse scale shift".split()
OBJECTS = "words names prices days digits lines rows items keys marks parts codes".split()
ARGUMENTS = "value text limit size left right first step width unit".split()
WORDS = "apple river stone cloud tiger lemon piano candle window rocket violet garden silver".split()


@dataclass(frozen=True)
class Case:
    """One example of a function: its name, parameters, arguments, and what comes of them (a value or an error)."""

    function: str
    parameters: tuple[str, ...]
    arguments: tuple[str, ...]
    result: str

    @property
    def call(self) -> str:
        return f"{self.function}({', '.join(self.arguments)})"

    @property
    def test(self) -> str:
        """The line of a test that states the example."""
        if self.result == "True":
            return f"assert {self.call}"
        if self.result == "False":
            return f"assert not {self.call}"
        return f"assert {self.call} {'is' if self.result == 'None' else '=='} {self.result}"


def draw_value(rng: Random) -> str:
    kind = rng.choice(["int", "int", "word", "list"])
    if kind == "int":
        return str(rng.randint(0, 99))
    if kind == "word":
        return f"'{rng.choice(WORDS)}'"
    return "[" + ", ".join(str(rng.randint(0, 9)) for _ in range(rng.randint(2, 3))) + "]"


def draw_case(rng: Random) -> Case:
    parameters = tuple(rng.sample(ARGUMENTS, rng.choice([1, 2, 2])))
    result = rng.choice(["True", "False", "None", *[draw_value(rng) for _ in range(5)]])
    return Case(
        f"{rng.choice(ACTIONS)}_{rng.choice(OBJECTS)}", parameters, tuple(draw_value(rng) for _ in parameters), result
    )


# ---------------------------------------------------------------- orders, and houses to visit

GOODS = "lamps chairs tables books clocks bowls tents ropes boots maps drums kites bells plates pens".split()


@dataclass(frozen=True)
class Date:
    day: int
    month: int
    year: int

    @property
    def iso(self) -> str:
        return f"{self.year}-{self.month:02d}-{self.day:02d}"

    @property
    def long(self) -> str:
        return f"{self.day} {MONTHS[self.month - 1]} {self.year}"

    @property
    def american(self) -> str:
        ending = "th" if 11 <= self.day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(self.day % 10, "th")
        return f"{MONTHS[self.month - 1]} {self.day}{ending}, {self.year}"


@dataclass(frozen=True)
class Order:
    name: str
    goods: str
    count: int
    city: str
    date: Date

    @property
    def json(self) -> str:
        fields = {"name": self.name, "goods": self.goods, "count": self.count, "city": self.city, "date": self.date.iso}
        return json.dumps(fields)


def draw_date(rng: Random) -> Date:
    return Date(rng.randint(1, 28), rng.randint(1, 12), rng.randint(1990, 2029))


def draw_order(rng: Random) -> Order:
    return Order(rng.choice(NAMES), rng.choice(GOODS), rng.randint(2, 12), rng.choice(CITIES), draw_date(rng))


HOUSES = "museum library theatre gallery zoo aquarium castle cinema".split()


@dataclass(frozen=True)
class House:
    """A place to visit, with what a visitor may ask for."""

    kind: str
    city: str
    opens: int
    closes: int
    price: int


def draw_house(rng: Random) -> House:
    return House(rng.choice(HOUSES), rng.choice(CITIES), rng.randint(6, 12), rng.randint(15, 23), rng.randint(2, 30))
