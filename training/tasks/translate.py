"""English to Portuguese over a closed lexicon, with gender and number agreement."""

from training.tasks.example import Example, framed
from training.words import Wording, Words

# english -> (portuguese, gender)
NOUNS = {
    "house": ("casa", "f"), "dog": ("cachorro", "m"), "book": ("livro", "m"), "table": ("mesa", "f"),
    "car": ("carro", "m"), "chair": ("cadeira", "f"), "boy": ("menino", "m"), "girl": ("menina", "f"),
    "teacher": ("professora", "f"), "friend": ("amigo", "m"), "window": ("janela", "f"), "door": ("porta", "f"),
    "school": ("escola", "f"), "street": ("rua", "f"), "shirt": ("camisa", "f"), "boat": ("barco", "m"),
    "orange": ("laranja", "f"), "plate": ("prato", "m"), "cup": ("caneca", "f"), "son": ("filho", "m"),
    "daughter": ("filha", "f"), "bed": ("cama", "f"), "lake": ("lago", "m"), "box": ("caixa", "f"),
}  # fmt: skip
# english -> masculine stem, feminine takes a
ADJECTIVES = {
    "red": "vermelho", "white": "branco", "yellow": "amarelo", "new": "novo", "old": "velho", "beautiful": "bonito",
    "small": "pequeno", "tired": "cansado", "clean": "limpo", "dirty": "sujo", "expensive": "caro", "cheap": "barato",
    "tall": "alto", "low": "baixo", "cold": "frio", "full": "cheio", "round": "redondo", "quick": "rápido",
}  # fmt: skip
VERBS = {
    "sees": "vê", "wants": "quer", "has": "tem", "buys": "compra", "sells": "vende", "likes": "adora",
    "cleans": "limpa", "finds": "encontra", "paints": "pinta", "opens": "abre", "uses": "usa", "looks for": "procura",
}  # fmt: skip
ARTICLES = {
    "the": ("o", "a"),
    "a": ("um", "uma"),
    "this": ("este", "esta"),
    "my": ("meu", "minha"),
    "our": ("nosso", "nossa"),
}
ASKS = Wording(
    (
        "Translate to Portuguese",
        "Translate into Portuguese",
        "Translate this to Portuguese",
        "Say this in Portuguese",
        "In Portuguese, please",
        "Portuguese",
        "English to Portuguese",
        "How do you say this in Portuguese",
    ),
    (
        "Translate the sentence from English to Portuguese",
        "What is this in Portuguese",
        "Give me the Portuguese for this",
        "Put this into Portuguese",
        "I need this in Portuguese",
    ),
)


def draw_phrase(words: Words) -> tuple[str, str]:
    """A noun phrase in both languages."""
    article, noun = words.pick(*ARTICLES), words.pick(*NOUNS)
    portuguese, gender = NOUNS[noun]
    parts = [ARTICLES[article][gender == "f"], portuguese]
    english = [article, noun]
    if words.chance(0.5):
        adjective = words.pick(*ADJECTIVES)
        parts.append(inflect(ADJECTIVES[adjective], gender))
        english.insert(1, adjective)
    if article == "a" and english[1][0] in "aeiou":
        english[0] = "an"
    return " ".join(english), " ".join(parts)


def inflect(adjective: str, gender: str) -> str:
    return adjective[:-1] + "a" if gender == "f" else adjective


def draw_sentence(words: Words) -> tuple[str, str]:
    """Bare noun phrases are for training alone: they stand inside sentences, so none is ever unseen."""
    if words.chance(0.4):
        article, noun = words.pick(*ARTICLES), words.pick(*NOUNS)
        portuguese, gender = NOUNS[noun]
        adjective = words.pick(*ADJECTIVES)
        english = f"{'an' if article == 'a' and noun[0] in 'aeiou' else article} {noun} is {adjective}"
        return (
            english,
            f"{ARTICLES[article][gender == 'f']} {portuguese} é {inflect(ADJECTIVES[adjective], gender)}",
        )
    if words.held_out or words.chance(0.6):
        (subject, sujeito), (thing, coisa) = draw_phrase(words), draw_phrase(words)
        verb = words.pick(*VERBS)
        return f"{subject} {verb} {thing}", f"{sujeito} {VERBS[verb]} {coisa}"
    return draw_phrase(words)


def draw(words: Words) -> Example:
    english, portuguese = words.combination(lambda: draw_sentence(words), lambda pair: pair[0])
    shown = words.pick(english, english[0].upper() + english[1:], english[0].upper() + english[1:] + ".")
    answer = portuguese[0].upper() + portuguese[1:] + "."
    loose = (f"in portuguese: {portuguese}", f"one says: {portuguese}")
    return Example(framed(words, words.say(ASKS), shown), answer, loose)
