"""How people ask for what one SELECT gives."""

from training.words import Wording

AGGREGATES = {
    "AVG": ("average", "mean"),
    "MAX": ("highest", "maximum", "largest", "biggest"),
    "MIN": ("lowest", "minimum", "smallest"),
    "SUM": ("total", "sum of the", "combined"),
}

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

SAY_PLACE = Wording(("in {v}", "from {v}", "located in {v}"), ("of {v}", "that are in {v}", "based in {v}"))

SAY_TEXT = Wording(
    (
        "where {c} is {v}",
        "where the {c} is {v}",
        "whose {c} is {v}",
        "with {c} {v}",
        "that have {c} {v}",
        "where {c} equals {v}",
        "with {c} '{v}'",
        "in the {v} {c}",
        "of the {c} {v}",
        "that belong to {c} {v}",
    ),
    ("having {c} {v}", "where {c} = '{v}'", "that have the {c} {v}", "with the {c} set to {v}"),
)

SAY_EQUAL = Wording(("where {c} is {v}", "with {c} equal to {v}"), ("whose {c} equals {v}", "having {c} {v}"))

SAY_COMPARED = Wording(
    (
        "with {c} {degree} {v}",
        "where {c} is {degree} {v}",
        "with a {c} {degree} {v}",
        "whose {c} is {degree} {v}",
        "where {c} {sign} {v}",
    ),
    ("having a {c} {degree} {v}", "that have {c} {degree} {v}", "whose {c} {sign} {v}"),
)

MORE = Wording(
    ("over", "above", "more than", "greater than", "bigger than"), ("higher than", "larger than", "exceeding")
)

LESS = Wording(("under", "below", "less than", "smaller than"), ("lower than", "fewer than"))

ASK_PEOPLE = Wording(
    ("How many {p} are in {t}", "Count the {p} in {t}", "How many {p} does {t} have"),
    ("What is the number of {p} in {t}", "How many {p} has {t} got"),
)

ASK_COUNT = Wording(
    ("How many {t} are there", "Count the {t}", "Count all {t}", "What is the number of {t}"),
    ("How many {t} exist", "Give me the number of {t}", "What is the count of {t}"),
)

ASK_COUNT_WHERE = Wording(
    ("How many {t} are there", "Count the {t}", "How many {t}", "Number of {t}", "How many {t} do we have"),
    ("Give me the number of {t}", "Tell me how many {t} there are", "I need the count of {t}"),
)

ASK_ALL = Wording(
    (
        "Show me all {t}",
        "Which {t} are there",
        "Give me all {t}",
        "I want all {t}",
        "Which {t}",
        "Return {t}",
        "Show all {t}",
        "List all {t}",
        "Show everything about {t}",
        "Get all {t}",
        "Find the {t}",
    ),
    ("Select all {t}", "Display the {t}", "Find all {t}", "I need every {t}"),
)

ASK_COLUMNS = Wording(
    (
        "List the {named} of all {t}",
        "Show the {named} of {t}",
        "What are the {named} of the {t}",
        "Show {named} of the {t}",
        "Give me the {named} of all {t}",
        "Find the {named} of {t}",
        "Get {named} from {t}",
        "Select {named} from {t}",
        "Which {named} do the {t} have",
        "Give me {named} of every {t}",
        "Tell me the {named} of the {t}",
        "I want to see the {named} of all {t}",
        "Can you show me the {named} of the {t}",
        "Return {named} for all {t}",
        "Display {named} from {t}",
        "What is the {named} of the {t}",
    ),
    (
        "I need the {named} of all {t}",
        "Please list {named} for every {t}",
        "Retrieve the {named} of the {t}",
        "Could you give me the {named} of the {t}",
        "Print {named} of {t}",
    ),
)

SAY_ORDER = Wording(
    (" sorted by {c}", " ordered by {c}", ", sort by {c}"),
    (" arranged by {c}", ", order them by {c}", " and sort them by {c}"),
)

SAY_DOWN = Wording(
    (" descending", " from high to low", " in descending order", ", highest first", ", largest first"),
    (", biggest first", " in decreasing order", " from largest to smallest"),
)

SAY_UP = Wording(
    ("", "", " ascending", " in ascending order", ", lowest first", ", smallest first"),
    ("", " in increasing order", " from low to high"),
)

ASK_AGGREGATE = Wording(
    (
        "What is the {phrase} {c} of the {t}",
        "What is the {phrase} {c} of all {t}",
        "Find the {phrase} {c} of {t}",
        "Show the {phrase} {c} of the {t}",
        "Give me the {phrase} {c} of {t}",
    ),
    (
        "Compute the {phrase} {c} of the {t}",
        "Tell me the {phrase} {c} of all {t}",
        "I need the {phrase} {c} of the {t}",
    ),
)

ASK_PEOPLE_PER = Wording(
    ("How many {p} are in each {g}", "Count the {p} per {g}", "How many {p} does each {g} have"),
    ("What is the number of {p} per {g}", "For each {g}, how many {p} are there"),
)

ASK_COUNT_PER = Wording(
    ("How many {t} are there per {g}", "Count the {t} for each {g}", "Number of {t} per {g}"),
    ("For each {g}, count the {t}", "How many {t} does each {g} have", "What is the number of {t} in each {g}"),
)

ASK_AGGREGATE_PER = Wording(
    ("What is the {phrase} {c} of the {t} per {g}", "Show the {phrase} {c} of {t} for each {g}"),
    ("For each {g}, show the {phrase} {c} of the {t}", "Give me the {phrase} {c} of {t} per {g}"),
)

DEGREE_DOWN = Wording(("highest", "largest", "most"), ("biggest", "greatest"))

DEGREE_UP = Wording(("lowest", "smallest", "least"), ("minimum",))

ASK_WHO = "Who has the {degree} {c}"

ASK_BEST = Wording(
    (
        "Which {shown} has the {degree} {c}",
        "What is the {shown} with the {degree} {c}",
        "Show the {shown} with the {degree} {c}",
    ),
    ("Give me the {shown} with the {degree} {c}", "Find the {shown} that has the {degree} {c}"),
)

ASK_TOP = Wording(
    ("Show the {n} {t} with the {degree} {c}", "Find the {n} {t} with the {degree} {c}"),
    ("List the {n} {t} that have the {degree} {c}", "Give me the {n} {t} with the {degree} {c}"),
)

ASK_TOP_COLUMN = Wording(
    ("Show the {taken} of the {n} {t} with the {degree} {c}", "List the {taken} of the {n} {t} with the {degree} {c}"),
    (
        "Give me the {taken} of the {n} {t} with the {degree} {c}",
        "What is the {taken} of the {n} {t} with the {degree} {c}",
    ),
)

DIFFERENT = Wording(("different", "distinct", "unique"), ("different", "unique"))

ASK_DISTINCT = Wording(
    (
        "What are the {kind} {c} of the {t}",
        "List the {kind} {c} of {t}",
        "Show the {kind} {c} values of {t}",
        "Which {kind} {c} do the {t} have",
    ),
    ("Give me all {kind} {c} of the {t}", "Which {kind} {c} are there in {t}", "Return the {kind} {c} of {t}"),
)

PREFIX = Wording(
    ("",) * 36 + ("Please write the SQL: ", "Write an SQL query: ", "In SQL: ", "SQL: "),
    ("",) * 6 + ("Give me the SQL for this: ", "SQL query, please: "),
)

LAYOUT = Wording(
    ("{schema}\n{question}",) * 14 + ("{schema}\nQuestion: {question}",) * 3 + ("{question}\n{schema}",) * 3,
    ("{schema}\n\n{question}", "Schema:\n{schema}\n{question}", "{question}\n\n{schema}"),
)

PEOPLE = ("people", "rows", "entries", "records")

QUESTION_WORDS = ("How", "What", "Which", "Number", "Who", "Can", "Could", "For")
