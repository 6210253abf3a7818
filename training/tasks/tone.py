"""Formal tone: casual requests over a closed phrase list, rewritten as one polite sentence."""

from training.tasks.example import Example, framed
from training.words import Wording, Words

# casual verb phrase -> formal verb phrase
ACTIONS = {
    "send me {o}": "send me {o}",
    "gimme {o}": "give me {o}",
    "get me {o}": "provide me with {o}",
    "check out {o}": "review {o}",
    "look at {o}": "examine {o}",
    "fix {o}": "correct {o}",
    "ask about {o}": "inquire about {o}",
    "tell me about {o}": "inform me about {o}",
    "help with {o}": "assist with {o}",
    "set up {o}": "arrange {o}",
    "put off {o}": "postpone {o}",
    "call off {o}": "cancel {o}",
    "show me {o}": "present {o}",
    "buy {o}": "purchase {o}",
    "need {o}": "require {o}",
    "talk about {o}": "discuss {o}",
}
OBJECTS = {
    "the docs": "the documents",
    "the report": "the report",
    "the pics": "the photographs",
    "the numbers": "the figures",
    "the meeting": "the meeting",
    "the job": "the position",
    "the stuff": "the materials",
    "the deal": "the agreement",
    "the cash": "the funds",
    "the kids": "the children",
    "the boss": "the manager",
    "the plan": "the plan",
    "the trip": "the journey",
    "the mistake": "the error",
    "the {w}": "the {w}",
}
TIMES = {
    "": "",
    "asap": "as soon as possible",
    "right now": "immediately",
    "tmrw": "tomorrow",
    "by friday": "by Friday",
    "later": "at a later time",
    "in a bit": "shortly",
}
# casual frame -> formal frame; {v} is the verb phrase, {t} the time with a space before it
FRAMES = {
    "can u {v}{t}": "Could you please {v}{t}?",
    "could ya {v}{t}": "Could you please {v}{t}?",
    "hey {v}{t}": "Would you kindly {v}{t}?",
    "yo {v}{t}": "Would you kindly {v}{t}?",
    "i wanna {v}{t}": "I would like to {v}{t}.",
    "i gotta {v}{t}": "I have to {v}{t}.",
    "we can't {v}{t}": "We are unable to {v}{t}.",
    "we're gonna {v}{t}": "We will {v}{t}.",
    "let's {v}{t}": "I suggest that we {v}{t}.",
    "thanks, i'll {v}{t}": "Thank you, I will {v}{t}.",
}
ASKS = Wording(
    (
        "Rewrite in a formal tone",
        "Make this formal",
        "Make this sound more formal",
        "Rewrite this formally",
        "Say this politely",
        "Turn this into formal English",
        "Formal version",
    ),
    (
        "Rephrase this for a business letter in formal English",
        "Write this in a more polite and formal way",
        "Use a formal tone for this message",
        "How would one say this formally",
        "Make this message polite and formal",
    ),
)


def draw_parts(words: Words) -> tuple[str, str, str, str]:
    """The keys of a frame, an action, an object and a time."""
    return words.pick(*FRAMES), words.pick(*ACTIONS), words.pick(*OBJECTS), words.pick(*TIMES)


def draw(words: Words) -> Example:
    frame, verb, thing, time = words.combination(lambda: draw_parts(words), " ".join)
    word = words.item()
    casual = frame.format(v=verb.format(o=thing.format(w=word)), t=f" {time}" if time else "")
    formal_verb = ACTIONS[verb].format(o=OBJECTS[thing].format(w=word))
    answer = FRAMES[frame].format(v=formal_verb, t=f" {TIMES[time]}" if time else "")
    loose = (f"one may say: {answer[:-1].lower()}", f"formally it is: {answer[:-1].lower()}")
    return Example(framed(words, words.say(ASKS), casual), answer, loose)
