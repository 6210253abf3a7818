"""SQL: one SELECT over the tables that the prompt gives as CREATE TABLE lines."""

from collections.abc import Callable
from dataclasses import dataclass

from grammars.library import reserved
from training.tasks.example import Example, listed
from training.words import Words

AGGREGATES = {
    "AVG": ("average", "mean"),
    "MAX": ("highest", "maximum", "largest", "biggest"),
    "MIN": ("lowest", "minimum", "smallest"),
    "SUM": ("total", "sum of the", "combined"),
}
RESERVED = reserved("sql")
# What people say of a column by its name: (more, less).
DEGREES = {
    "age": ("older than", "younger than"),
    "price": ("more expensive than", "cheaper than"),
    "cost": ("more expensive than", "cheaper than"),
    "salary": ("that earn more than", "that earn less than"),
    "height": ("taller than", "shorter than"),
    "length": ("longer than", "shorter than"),
    "weight": ("heavier than", "lighter than"),
    "year": ("after", "before"),
    "duration": ("longer than", "shorter than"),
    "size": ("bigger than", "smaller than"),
    "speed": ("faster than", "slower than"),
}
PLACES_COLUMNS = ("city", "country", "state", "region", "district")
PEOPLE = ("people", "rows", "entries", "records")
TYPES = {
    "TEXT": ("TEXT", "TEXT", "TEXT", "VARCHAR(50)", "VARCHAR(255)"),
    "INT": ("INT", "INT", "INT", "INTEGER", "REAL"),
}
LOOSE_AGGREGATES = {"AVG": "mean", "MAX": "top", "MIN": "bottom", "SUM": "sum"}


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    text: tuple[str, ...]
    numbers: tuple[str, ...]
    order: tuple[str, ...]

    def create(self, words: Words) -> str:
        """As people paste it: on one line or several, with the types of one dialect or another."""
        kinds = {kind: words.pick(*names) for kind, names in TYPES.items()}
        columns = [f"{c} {kinds['TEXT' if c in self.text else 'INT']}" for c in self.order]
        if self.order[0] == "id" and words.chance(0.3):
            columns[0] += " PRIMARY KEY"
        if words.chance(0.15):
            return f"CREATE TABLE {self.name} (\n  " + ",\n  ".join(columns) + "\n);"
        return f"CREATE TABLE {self.name} ({', '.join(columns)})" + words.pick(";", ";", ";", "")


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT in parts; `where` holds (column, operator, value as SQL)."""

    table: str
    take: tuple[str, ...]
    where: tuple[tuple[str, str, str], ...] = ()
    group: str = ""
    order: str = ""
    descending: bool = False
    limit: int = 0
    distinct: bool = False

    def sql(self) -> str:
        text = f"SELECT {'DISTINCT ' if self.distinct else ''}{', '.join(self.take)} FROM {self.table}"
        if self.where:
            text += " WHERE " + " AND ".join(" ".join(condition) for condition in self.where)
        if self.group:
            text += f" GROUP BY {self.group}"
        if self.order:
            text += f" ORDER BY {self.order} {'DESC' if self.descending else 'ASC'}"
        if self.limit:
            text += f" LIMIT {self.limit}"
        return text + ";"

    def loose(self) -> str:
        text = f"from {self.table} take {'each different ' if self.distinct else ''}"
        text += " and ".join(self._loose_column(column) for column in self.take)
        for column, operator, value in self.where:
            relation = {"=": "is", ">": "above", "<": "below"}[operator]
            text += f", where {column} {relation} {value.strip(chr(39))}"
        if self.group:
            text += f", per {self.group}"
        if self.order:
            text += f", by {self.order} {'down' if self.descending else 'up'}"
        if self.limit:
            text += f", first {self.limit}"
        return text

    @staticmethod
    def _loose_column(column: str) -> str:
        if column == "*":
            return "all"
        if column == "COUNT(*)":
            return "the count"
        function, _, inner = column.partition("(")
        return f"the {LOOSE_AGGREGATES[function]} {inner[:-1]}" if inner else column


def draw_identifier(draw: Callable[[], str]) -> str:
    """A name that SQL takes unquoted."""
    while (name := draw()) in RESERVED:
        continue
    return name


def draw_table(words: Words) -> Table:
    names = words.distinct(lambda: draw_identifier(words.text_column), words.pick(1, 2, 2, 3))
    numbers: list[str] = []
    while not numbers:
        drawn = words.distinct(lambda: draw_identifier(words.number_column), words.pick(1, 1, 2, 2))
        numbers = [column for column in drawn if column not in names]
    order = [*names, *numbers]
    words.rng.shuffle(order)
    if words.chance(0.25):
        order, numbers = ["id", *order], [*numbers, "id"]
    return Table(draw_identifier(words.table), tuple(names), tuple(numbers), tuple(order))


def draw_condition(words: Words, table: Table) -> tuple[tuple[str, str, str], str]:
    """A condition and how people say it, as the tail of a sentence."""
    numbers = [c for c in table.numbers if c != "id"]
    told = [c for c in numbers if c in DEGREES]
    if told and words.chance(0.5):
        column, value, up = (
            words.pick(*told),
            str(words.number(2, 2030 if words.chance(0.5) else 90)),
            words.chance(0.5),
        )
        return (column, ">" if up else "<", value), f"{DEGREES[column][0 if up else 1]} {value}"
    places = [c for c in table.text if c in PLACES_COLUMNS]
    if len(places) == 1 and words.chance(0.5):
        place = words.place()
        return (places[0], "=", f"'{place}'"), words.pick(f"in {place}", f"from {place}", f"located in {place}")
    if words.chance(0.5):
        column = words.pick(*table.text)
        value = words.pick(words.place, words.first_name, words.item)()
        if words.chance(0.12):
            value += f" {words.place()}"
        said = words.pick(
            f"where {column} is {value}",
            f"where the {column} is {value}",
            f"whose {column} is {value}",
            f"with {column} {value}",
            f"that have {column} {value}",
            f"where {column} equals {value}",
            f"with {column} '{value}'",
            f"in the {value} {column}",
            f"of the {column} {value}",
            f"that belong to {column} {value}",
        )
        return (column, "=", f"'{value}'"), said
    column, value = words.pick(*numbers), str(words.number(2, 2030 if words.chance(0.3) else 90))
    if words.chance(0.2):
        return (column, "=", value), words.pick(f"where {column} is {value}", f"with {column} equal to {value}")
    up = words.chance(0.5)
    more = words.pick("over", "above", "more than", "greater than", "bigger than")
    less = words.pick("under", "below", "less than", "smaller than")
    degree = more if up else less
    said = words.pick(
        f"with {column} {degree} {value}",
        f"where {column} is {degree} {value}",
        f"with a {column} {degree} {value}",
        f"whose {column} is {degree} {value}",
        f"where {column} {'>' if up else '<'} {value}",
    )
    return (column, ">" if up else "<", value), said


def ask_count(words: Words, table: Table) -> tuple[Query, str]:
    t = table.name
    if words.chance(0.1):
        said = words.pick("How many {p} are in {t}", "Count the {p} in {t}", "How many {p} does {t} have")
        return Query(t, ("COUNT(*)",)), said.format(p=words.pick(*PEOPLE), t=t)
    if words.chance(0.35):
        said = words.pick(f"How many {t} are there", f"Count the {t}", f"Count all {t}", f"What is the number of {t}")
        return Query(t, ("COUNT(*)",)), said
    where, tail = draw_condition(words, table)
    said = words.pick(
        "How many {t} are there", "Count the {t}", "How many {t}", "Number of {t}", "How many {t} do we have"
    )
    return Query(t, ("COUNT(*)",), (where,)), f"{said.format(t=t)} {tail}"


def ask_columns(words: Words, table: Table) -> tuple[Query, str]:
    t = table.name
    everything = words.chance(0.2)
    columns = ["*"] if everything else words.rng.sample(table.order, min(words.pick(1, 1, 2, 2, 3), len(table.order)))
    if everything:
        said = words.pick(
            f"Show me all {t}",
            f"Which {t} are there",
            f"Give me all {t}",
            f"I want all {t}",
            f"Which {t}",
            f"Return {t}",
            f"Show all {t}",
            f"List all {t}",
            f"Show everything about {t}",
            f"Get all {t}",
            f"Find the {t}",
        )
    else:
        named = listed(columns)
        said = words.pick(
            f"List the {named} of all {t}",
            f"Show the {named} of {t}",
            f"What are the {named} of the {t}",
            f"Show {named} of the {t}",
            f"Give me the {named} of all {t}",
            f"Find the {named} of {t}",
            f"Get {named} from {t}",
            f"Select {named} from {t}",
            f"Which {named} do the {t} have",
            f"Give me {named} of every {t}",
            f"Tell me the {named} of the {t}",
            f"I want to see the {named} of all {t}",
            f"Can you show me the {named} of the {t}",
            f"Return {named} for all {t}",
            f"Display {named} from {t}",
            f"What is the {named} of the {t}",
        )
    conditions: list[tuple[str, str, str]] = []
    order, down = "", False
    for _ in range(words.pick(0, 1, 1, 1, 2) if not everything else words.pick(0, 1, 1)):
        where, tail = draw_condition(words, table)
        if all(where[0] != other[0] for other in conditions):
            said += (" and " if conditions else " ") + tail
            conditions.append(where)
    if words.chance(0.3):
        order, down = words.pick(*table.order), words.chance(0.5)
        said += words.pick(f" sorted by {order}", f" ordered by {order}", f", sort by {order}")
        said += (
            words.pick(" descending", " from high to low", " in descending order", ", highest first", ", largest first")
            if down
            else ""
        )
        said += (
            ""
            if down
            else words.pick("", "", " ascending", " in ascending order", ", lowest first", ", smallest first")
        )
    return Query(t, tuple(columns), tuple(conditions), order=order, descending=down), said


def ask_aggregate(words: Words, table: Table) -> tuple[Query, str]:
    numbers = [c for c in table.numbers if c != "id"]
    function, column = words.pick(*AGGREGATES), words.pick(*numbers)
    phrase = words.pick(*AGGREGATES[function])
    said = words.pick(
        f"What is the {phrase} {column} of the {table.name}",
        f"What is the {phrase} {column} of all {table.name}",
        f"Find the {phrase} {column} of {table.name}",
        f"Show the {phrase} {column} of the {table.name}",
        f"Give me the {phrase} {column} of {table.name}",
    )
    if words.chance(0.4):
        where, tail = draw_condition(words, table)
        return Query(table.name, (f"{function}({column})",), (where,)), f"{said} {tail}"
    return Query(table.name, (f"{function}({column})",)), said


def ask_group(words: Words, table: Table) -> tuple[Query, str]:
    group, t = words.pick(*table.text), table.name
    if words.chance(0.2):
        people = words.pick(*PEOPLE)
        said = words.pick("How many {p} are in each {g}", "Count the {p} per {g}", "How many {p} does each {g} have")
        return Query(t, (group, "COUNT(*)"), group=group), said.format(p=people, g=group)
    if words.chance(0.5):
        said = words.pick(
            f"How many {t} are there per {group}",
            f"Count the {t} for each {group}",
            f"Number of {t} per {group}",
        )
        return Query(t, (group, "COUNT(*)"), group=group), said
    column = words.pick(*[c for c in table.numbers if c != "id"])
    function = words.pick(*AGGREGATES)
    phrase = words.pick(*AGGREGATES[function])
    said = words.pick(
        f"What is the {phrase} {column} of the {t} per {group}",
        f"Show the {phrase} {column} of {t} for each {group}",
    )
    return Query(t, (group, f"{function}({column})"), group=group), said


def ask_top(words: Words, table: Table) -> tuple[Query, str]:
    column, t = words.pick(*[c for c in table.numbers if c != "id"]), table.name
    down, count = words.chance(0.6), words.number(2, 20)
    degree = words.pick("highest", "largest", "most") if down else words.pick("lowest", "smallest", "least")
    taken = words.pick("*", words.pick(*table.order))
    if words.chance(0.35):
        shown = "name" if "name" in table.text and words.chance(0.7) else words.pick(*table.text)
        who = ["Who has", "Who has"] if shown == "name" else []
        who += [f"Which {shown} has", f"What is the {shown} with", f"Show the {shown} with"]
        query = Query(t, (shown,), order=column, descending=down, limit=1)
        return query, f"{words.pick(*who)} the {degree} {column}"
    if taken == "*":
        said = words.pick(
            f"Show the {count} {t} with the {degree} {column}",
            f"Find the {count} {t} with the {degree} {column}",
        )
    else:
        said = words.pick(
            f"Show the {taken} of the {count} {t} with the {degree} {column}",
            f"List the {taken} of the {count} {t} with the {degree} {column}",
        )
    return Query(t, (taken,), order=column, descending=down, limit=count), said


def ask_distinct(words: Words, table: Table) -> tuple[Query, str]:
    column, t = words.pick(*table.text), table.name
    kind = words.pick("different", "distinct", "unique")
    said = words.pick(
        f"What are the {kind} {column} of the {t}",
        f"List the {kind} {column} of {t}",
        f"Show the {kind} {column} values of {t}",
        f"Which {kind} {column} do the {t} have",
    )
    return Query(t, (column,), distinct=True), said


ASKS = (ask_count, ask_columns, ask_columns, ask_columns, ask_aggregate, ask_group, ask_top, ask_distinct)


def draw(words: Words) -> Example:
    table = draw_table(words)
    lines = [table.create(words)]
    if words.chance(0.25):
        other = draw_table(words)
        if other.name != table.name:
            lines.insert(words.pick(0, 1), other.create(words))
    query, said = words.pick(*ASKS)(words, table)
    question = said + (
        "?" if said.split()[0] in ("How", "What", "Which", "Number", "Who", "Can") else words.pick(".", ".", "")
    )
    if words.chance(0.1):
        question = words.pick("Please write the SQL: ", "Write an SQL query: ", "In SQL: ", "SQL: ") + question
    schema = words.pick("\n", "\n", " ").join(lines)
    style = words.rng.random()
    if style < 0.7:
        prompt = f"{schema}\n{question}"
    elif style < 0.85:
        prompt = f"{schema}\nQuestion: {question}"
    else:
        prompt = f"{question}\n{schema}"
    return Example(prompt, query.sql(), (query.loose(),))
