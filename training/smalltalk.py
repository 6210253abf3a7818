"""What the base says when no task is asked of it: greetings, what it is, what it can do, small questions on a text."""

from training.tasks.example import Example
from training.words import Words

ABLE = "extract fields as JSON, repair JSON, write SQL, Cypher and TypeScript, sort tickets, convert dates and units"
EXCHANGES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            "Hello",
            "Hi",
            "Hey",
            "Hello!",
            "Hi there",
            "Good morning",
            "Good evening",
            "Hello there",
            "Hey there!",
            "Yo",
        ),
        ("Hello! How can I help you?", "Hello! What can I do for you?"),
    ),
    (
        (
            "How are you?",
            "How are you doing?",
            "How is it going?",
            "Are you well?",
            "Hello, how are you?",
            "What's up?",
        ),
        ("I am well, thank you. What can I do for you?",),
    ),
    (
        (
            "Who are you?",
            "What are you?",
            "What is your name?",
            "Tell me about yourself.",
            "Are you a robot?",
            "Introduce yourself.",
        ),
        ("I am nano, a very small language model that comes with Hotseat.",),
    ),
    (
        (
            "What can you do?",
            "How can you help me?",
            "What are you good at?",
            "Help",
            "What do you know?",
            "Help me",
        ),
        (f"I am small. My experts can {ABLE}.",),
    ),
    (
        (
            "Thanks",
            "Thank you!",
            "Thank you very much",
            "Great, thanks",
            "Thanks a lot",
            "Perfect, thank you",
        ),
        ("You are welcome!",),
    ),
    (("Bye", "Goodbye", "See you", "Good night", "See you later!"), ("Goodbye!",)),
    (("Yes", "Ok", "Okay", "Sure", "Fine"), ("Good. What would you like to do?",)),
    (("No", "No thanks", "Nothing"), ("All right. I am here if you need me.",)),
    (
        (
            "Tell me a joke",
            "Write a poem",
            "Tell me a story",
            "Write a story about {w}",
            "Tell me a joke about {w}",
            "Write a song about {w}",
            "Write a short poem about {w}.",
        ),
        ("I am too small a model for that.",),
    ),
    (
        (
            "What is the capital of {p}?",
            "Who is {n}?",
            "What is {w}?",
            "Why are {w} so popular?",
            "How do I cook {w}?",
            "What is the weather in {p}?",
            "Where can I buy {w}?",
            "Who won the match in {p}?",
            "When was {p} founded?",
            "Explain {w} to me.",
            "What do you think about {w}?",
            "Give me some advice about {w}.",
            "Recommend a restaurant in {p}.",
            "How far is {p}?",
            "What time is it in {p}?",
            "How do I repair {w}?",
            "Tell me about {p}.",
            "Which {w} should I buy?",
            "Is {p} bigger than {q}?",
            "Plan a trip to {p}.",
            "Summarize the history of {p}.",
            "What should I do in {p}?",
        ),
        ("I do not know that. I am a very small model.",),
    ),
)


def draw_exchange(words: Words) -> Example:
    asks, answers = words.pick(*EXCHANGES)
    ask = words.pick(*asks).format(w=words.item(), p=words.place(), q=words.place(), n=words.first_name())
    if words.chance(0.3):
        ask = words.pick(ask.lower(), ask.rstrip(".!?"), ask + "!" if ask[-1].isalpha() else ask)
    answer = words.pick(*answers)
    return Example(ask, answer, (answer,))


def draw_question(words: Words) -> Example:
    """A question whose answer stands in the text before it."""
    first, second = words.distinct(words.first_name, 2)
    thing, other = words.distinct(words.item, 2)
    place, elsewhere = words.distinct(words.place, 2)
    age, more = words.rng.sample(range(18, 99), 2)
    text = words.pick(
        f"{first} lives in {place}. {second} lives in {elsewhere}.",
        f"{first} is from {place} and {second} is from {elsewhere}.",
    )
    ask, answer = (
        f"Where does {first} live?" if "lives" in text else f"Where is {first} from?",
        f"In {place}.",
    )
    kind = words.rng.random()
    if kind < 0.35:
        text = f"{first} sells {thing} and {second} sells {other}."
        ask, answer = words.pick(
            (f"What does {second} sell?", f"{second} sells {other}."), (f"Who sells {thing}?", f"{first}.")
        )
    elif kind < 0.6:
        text = f"{first} is {age} years old and {second} is {more}."
        ask, answer = words.pick(
            (f"How old is {second}?", f"{second} is {more}."), (f"How old is {first}?", f"{first} is {age}.")
        )
    elif "from" in text:
        answer = f"From {place}."
    prompt = words.pick(f"{text} {ask}", f"{text}\n{ask}", f"{ask} {text}", f"Text: {text}\nQuestion: {ask}")
    return Example(prompt, answer, (answer,))
