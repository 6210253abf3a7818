"""SQL: one SELECT over the tables that the prompt gives as CREATE TABLE lines."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from grammars.library import reserved
from training.tasks import sql_wording as wording
from training.tasks.example import Example, listed
from training.words import Words

RESERVED = reserved("sql")
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

    @property
    def values(self) -> tuple[str, ...]:
        """The number columns that mean something."""
        return tuple(column for column in self.numbers if column != "id")

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


def draw_text_column(words: Words) -> str:
    """Now and then one that people speak of without its name: `in Porto`, `who`."""
    return words.pick("name", *wording.PLACES_COLUMNS) if words.chance(0.15) else draw_identifier(words.text_column)


def draw_number_column(words: Words) -> str:
    return words.pick(*wording.DEGREES) if words.chance(0.15) else draw_identifier(words.number_column)


def draw_table(words: Words) -> Table:
    names = words.distinct(lambda: draw_text_column(words), words.pick(1, 2, 2, 3))
    numbers: list[str] = []
    while not numbers:
        drawn = words.distinct(lambda: draw_number_column(words), words.pick(1, 1, 2, 2))
        numbers = [column for column in drawn if column not in names]
    order = [*names, *numbers]
    words.rng.shuffle(order)
    if words.chance(0.25):
        order, numbers = ["id", *order], [*numbers, "id"]
    return Table(draw_identifier(words.table), tuple(names), tuple(numbers), tuple(order))


def draw_condition(words: Words, table: Table) -> tuple[tuple[str, str, str], str]:
    """A condition and how people say it, as the tail of a sentence."""
    said_of = {c: set(wording.DEGREES.get(c, ())) for c in table.values}
    told = [c for c, said in said_of.items() if said and all(said.isdisjoint(said_of[o]) for o in said_of if o != c)]
    if told and words.chance(0.5):
        column, value = words.pick(*told), str(words.number(2, 2030 if words.chance(0.5) else 90))
        up = words.chance(0.5)
        return (column, ">" if up else "<", value), f"{wording.DEGREES[column][0 if up else 1]} {value}"
    places = [c for c in table.text if c in wording.PLACES_COLUMNS]
    if len(places) == 1 and words.chance(0.5):
        place = words.place()
        return (places[0], "=", f"'{place}'"), words.say(wording.SAY_PLACE, v=place)
    if words.chance(0.5):
        column = words.pick(*table.text)
        value = words.pick(words.place, words.first_name, words.item)()
        if words.chance(0.12):
            value += f" {words.place()}"
        return (column, "=", f"'{value}'"), words.say(wording.SAY_TEXT, c=column, v=value)
    column, value = words.pick(*table.values), str(words.number(2, 2030 if words.chance(0.3) else 90))
    if words.chance(0.2):
        return (column, "=", value), words.say(wording.SAY_EQUAL, c=column, v=value)
    up = words.chance(0.5)
    degree, sign = words.form(wording.MORE if up else wording.LESS), ">" if up else "<"
    return (column, sign, value), words.say(wording.SAY_COMPARED, c=column, degree=degree, sign=sign, v=value)


def ask_count(words: Words, table: Table) -> tuple[Query, str]:
    everything = Query(table.name, ("COUNT(*)",))
    if words.chance(0.1):
        return everything, words.say(wording.ASK_PEOPLE, p=words.pick(*wording.PEOPLE), t=table.name)
    if words.chance(0.35):
        return everything, words.say(wording.ASK_COUNT, t=table.name)
    where, tail = draw_condition(words, table)
    return replace(everything, where=(where,)), f"{words.say(wording.ASK_COUNT_WHERE, t=table.name)} {tail}"


def ask_columns(words: Words, table: Table) -> tuple[Query, str]:
    if everything := words.chance(0.2):
        columns, said = ["*"], words.say(wording.ASK_ALL, t=table.name)
    else:
        columns = words.rng.sample(table.order, min(words.pick(1, 1, 2, 2, 3), len(table.order)))
        said = words.say(wording.ASK_COLUMNS, named=listed(columns), t=table.name)
    conditions: list[tuple[str, str, str]] = []
    order, down = "", False
    for _ in range(words.pick(0, 1, 1) if everything else words.pick(0, 1, 1, 1, 2)):
        where, tail = draw_condition(words, table)
        if all(where[0] != other[0] for other in conditions):
            said += (" and " if conditions else " ") + tail
            conditions.append(where)
    if words.chance(0.3):
        order, down = words.pick(*table.order), words.chance(0.5)
        said += words.say(wording.SAY_ORDER, c=order) + words.form(wording.SAY_DOWN if down else wording.SAY_UP)
    return Query(table.name, tuple(columns), tuple(conditions), order=order, descending=down), said


def ask_aggregate(words: Words, table: Table) -> tuple[Query, str]:
    function, column = words.pick(*wording.AGGREGATES), words.pick(*table.values)
    said = words.say(wording.ASK_AGGREGATE, phrase=words.pick(*wording.AGGREGATES[function]), c=column, t=table.name)
    query = Query(table.name, (f"{function}({column})",))
    if words.chance(0.4):
        where, tail = draw_condition(words, table)
        return replace(query, where=(where,)), f"{said} {tail}"
    return query, said


def ask_group(words: Words, table: Table) -> tuple[Query, str]:
    group, t = words.pick(*table.text), table.name
    count = Query(t, (group, "COUNT(*)"), group=group)
    if words.chance(0.2):
        return count, words.say(wording.ASK_PEOPLE_PER, p=words.pick(*wording.PEOPLE), g=group)
    if words.chance(0.5):
        return count, words.say(wording.ASK_COUNT_PER, t=t, g=group)
    function, column = words.pick(*wording.AGGREGATES), words.pick(*table.values)
    phrase = words.pick(*wording.AGGREGATES[function])
    said = words.say(wording.ASK_AGGREGATE_PER, phrase=phrase, c=column, t=t, g=group)
    return Query(t, (group, f"{function}({column})"), group=group), said


def ask_top(words: Words, table: Table) -> tuple[Query, str]:
    column, t = words.pick(*table.values), table.name
    down, count = words.chance(0.6), words.number(2, 20)
    degree = words.form(wording.DEGREE_DOWN if down else wording.DEGREE_UP)
    if words.chance(0.35):
        shown = "name" if "name" in table.text and words.chance(0.7) else words.pick(*table.text)
        query = Query(t, (shown,), order=column, descending=down, limit=1)
        if shown == "name" and words.chance(0.4):
            return query, wording.ASK_WHO.format(degree=degree, c=column)
        return query, words.say(wording.ASK_BEST, shown=shown, degree=degree, c=column)
    taken = words.pick("*", words.pick(*table.order))
    asked = wording.ASK_TOP if taken == "*" else wording.ASK_TOP_COLUMN
    said = words.say(asked, taken=taken, n=count, t=t, degree=degree, c=column)
    return Query(t, (taken,), order=column, descending=down, limit=count), said


def ask_distinct(words: Words, table: Table) -> tuple[Query, str]:
    column = words.pick(*table.text)
    said = words.say(wording.ASK_DISTINCT, kind=words.form(wording.DIFFERENT), c=column, t=table.name)
    return Query(table.name, (column,), distinct=True), said


ASKS = (ask_count, ask_columns, ask_columns, ask_columns, ask_aggregate, ask_group, ask_top, ask_distinct)


def draw(words: Words) -> Example:
    table = draw_table(words)
    lines = [table.create(words)]
    if words.chance(0.25):
        other = draw_table(words)
        if other.name != table.name:
            lines.insert(words.pick(0, 1), other.create(words))
    query, said = words.pick(*ASKS)(words, table)
    question = (
        words.form(wording.PREFIX)
        + said
        + ("?" if said.split()[0] in wording.QUESTION_WORDS else words.pick(".", ".", ""))
    )
    prompt = words.say(wording.LAYOUT, schema=words.pick("\n", "\n", " ").join(lines), question=question)
    return Example(prompt, query.sql(), (query.loose(),))
