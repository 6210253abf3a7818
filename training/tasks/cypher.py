"""Cypher: one query over the graph schema that the prompt gives as pattern lines."""

from dataclasses import dataclass
from itertools import combinations

from training.tasks.example import Example, listed
from training.words import Wording, Words

ASK_COUNT = Wording(
    ("How many {a} nodes are there?", "Count the {a} nodes.", "Number of {a} nodes?"),
    (
        "What is the number of {a} nodes?",
        "Count all nodes with the label {a}.",
        "How many {a} nodes does the graph have?",
    ),
)
ASK_PROPERTIES = Wording(
    ("Show the {taken} of every {a}.", "List {taken} of all {a} nodes."),
    (
        "Give me the {taken} of each {a}.",
        "Return {taken} for every {a} node.",
        "What are the {taken} of all {a} nodes?",
    ),
)
ASK_NODE = Wording(
    ("Find the {a} with {prop} {value}.", "Which {a} has {prop} {value}?"),
    (
        "Show the {a} whose {prop} is {value}.",
        "Get every {a} where {prop} is {value}.",
        "Return the {a} with the {prop} {value}.",
    ),
)
ASK_HOP = Wording(
    (
        "Show the {other} of each {b} that the {a} with {prop} {value} leads to.",
        "For the {a} with {prop} {value}, list the {other} of each linked {b}.",
    ),
    (
        "List the {other} of every {b} linked to the {a} with {prop} {value}.",
        "Which {other} has each {b} that the {a} with {prop} {value} leads to?",
    ),
)
ASK_DEGREE = Wording(
    ("How many {b} nodes does each {a} lead to?", "Count the {b} nodes linked to each {a}."),
    ("For each {a}, count the linked {b} nodes.", "What is the number of {b} nodes that each {a} leads to?"),
)
PREFIX = Wording(("", "", "", "Cypher: ", "Write a Cypher query: "), ("", "In Cypher: ", "Give me a Cypher query. "))


@dataclass(frozen=True, slots=True)
class Graph:
    """Node labels with their properties, and edges (source, relation, target)."""

    properties: dict[str, tuple[str, ...]]
    edges: tuple[tuple[str, str, str], ...]

    def lines(self) -> str:
        nodes = [f"(:{label} {{{', '.join(names)}}})" for label, names in self.properties.items()]
        return "\n".join([*nodes, *(f"(:{a})-[:{r}]->(:{b})" for a, r, b in self.edges)])


def draw_graph(words: Words) -> Graph:
    labels = words.distinct(words.label, words.pick(2, 2, 3))
    properties = {
        label: tuple(words.distinct(words.pick(words.text_column, words.number_column), words.pick(1, 2)))
        for label in labels
    }
    # One edge between two labels: with both directions a question about linked nodes would have two answers.
    pairs = [words.pick((a, b), (b, a)) for a, b in combinations(labels, 2)]
    words.rng.shuffle(pairs)
    chosen = pairs[: words.pick(1, 2, 2, 3)]
    relations = words.distinct(words.relation, len(chosen))
    return Graph(properties, tuple((a, r, b) for (a, b), r in zip(chosen, relations, strict=True)))


def which_relation(words: Words, graph: Graph) -> Example:
    """The skill under every hop: which relationship leads from one label to another."""
    a, relation, b = words.pick(*graph.edges)
    said = words.pick(
        f"Which relationship joins {a} and {b}?", f"How is {a} linked to {b}?", f"What leads from {a} to {b}?"
    )
    return Example(f"{graph.lines()}\n{said}", f"-[:{relation}]->", (f"{a} {relation} {b}",))


def draw(words: Words) -> Example:
    graph = draw_graph(words)
    a, relation, b = words.pick(*graph.edges)
    kind = words.rng.random()
    prop = words.pick(*graph.properties[a])
    other = words.pick(*graph.properties[b])
    value = words.pick(words.place, words.first_name)()
    if kind < 0.15:
        said = words.say(ASK_COUNT, a=a)
        query, loose = f"MATCH (a:{a}) RETURN count(a);", f"count of {a}"
    elif kind < 0.35:
        taken = words.rng.sample(graph.properties[a], words.rng.randint(1, len(graph.properties[a])))
        said = words.say(ASK_PROPERTIES, a=a, taken=listed(taken))
        query = f"MATCH (a:{a}) RETURN {', '.join(f'a.{name}' for name in taken)};"
        loose = f"{' and '.join(taken)} of {a}"
    elif kind < 0.55:
        said = words.say(ASK_NODE, a=a, prop=prop, value=value)
        query, loose = f"MATCH (a:{a} {{{prop}: '{value}'}}) RETURN a;", f"{a} where {prop} is {value}"
    elif kind < 0.8:
        said = words.say(ASK_HOP, a=a, b=b, prop=prop, value=value, other=other)
        query = f"MATCH (a:{a} {{{prop}: '{value}'}})-[:{relation}]->(b:{b}) RETURN b.{other};"
        loose = f"from {a} where {prop} is {value} by {relation} to {b}, {other}"
    else:
        said = words.say(ASK_DEGREE, a=a, b=b)
        query = f"MATCH (a:{a})-[:{relation}]->(b:{b}) RETURN a, count(b);"
        loose = f"from each {a} by {relation} to {b}, count"
    return Example(f"{graph.lines()}\n{words.form(PREFIX)}{said}", query, (loose,))
