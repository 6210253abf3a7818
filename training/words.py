"""Slot words for generated text, split once and for all into seen and held-out ones.

A word belongs to the held-out side when its checksum says so, whatever it was drawn from, so the slots of a test prompt
hold no word that a slot of any training text has shown. Words come from pools of real ones,
from syllables, from random pieces of the tokenizer's vocabulary and from random letters: a model that copies
must meet every piece as something to copy.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

HELD_OUT_ONE_IN = 8

T = TypeVar("T")

FIRST_NAMES = """Maria Ana Joao Pedro Lucas Julia Bruno Carla Diego Elena Felix Greta Hugo Irene Jonas Karin Leo
Marta Nina Oscar Paula Rosa Simon Teresa Victor Wanda Alice Bob Carol David Emma Frank Grace Henry
Isabel Jack Kate Liam Mia Noah Olivia Peter Rachel Sara Tom Uma Vera Walter Yara Zoe Ben Clara
Daniel Eva Fatima Georg Hana Ivan Jana Kofi Lena Mark Nora Omar Pia Rita Sven Tina Ali Amir Anton
Beatriz Chen Dora Erik Gabriel Helga Ines Jamal Kenji Linda Mateo Priya Ravi Sofia Tariq Yuki Adam
Anna Laura Martin Paul Luis Nadia Ruth Samuel""".split()

PLACES = """Porto Lisbon Madrid Paris Berlin Rome London Dublin Vienna Prague Oslo Bergen Helsinki Warsaw Krakow
Athens Sofia Zagreb Geneva Basel Munich Hamburg Lyon Nice Milan Turin Naples Seville Bilbao Braga
Faro Ghent Leiden Utrecht Malmo Aarhus Tallinn Riga Vilnius Boston Chicago Denver Dallas Austin
Seattle Toronto Montreal Lima Quito Bogota Santiago Recife Salvador Curitiba Tokyo Osaka Kyoto Seoul
Delhi Mumbai Cairo Tunis Nairobi Accra Lagos Sydney Perth Auckland""".split()

ITEMS = """lamps chairs tables books pens cables phones mugs plates bags shoes shirts hats boxes candles clocks
mirrors pillows blankets bottles bicycles helmets gloves tents ropes ladders hammers drills nails
screws brushes buckets keyboards monitors printers chargers speakers cameras batteries notebooks
folders staplers scissors posters stamps vases baskets carpets curtains towels knives forks spoons
pans kettles toasters guitars drums violins puzzles kites balls skates rackets tickets vouchers
plants seeds apples oranges lemons cookies cakes coffees teas sandwiches pizzas umbrellas wallets
rings""".split()

TABLES = """singers concerts employees departments students courses teachers schools books authors orders
customers products stores flights airports airlines cars drivers movies actors directors songs
albums artists players teams matches stadiums cities countries rivers mountains museums paintings
patients doctors hospitals invoices payments suppliers parts projects tasks users posts comments
photos events tickets hotels rooms guests bookings restaurants dishes recipes farms animals plants
trees ships ports trains stations buildings houses owners pets shops sales accounts banks loans
devices""".split()

TEXT_COLUMNS = """name title city country status category color brand model email phone address street region type
genre language nationality department position level gender state district owner author artist
director team league sport material shape flavor style theme format publisher supplier manager code
label description currency""".split()

NUMBER_COLUMNS = """age price salary year quantity height weight length width score rating rank points budget revenue
capacity population area distance duration speed stock amount total balance size pages seats votes
wins losses goals floor stars discount tax cost hours minutes days visits views likes""".split()

LABELS = """Person Movie Actor Director City Country Company Employee Product Customer Order Book Author Student
Course Teacher School Team Player Song Artist Album User Post Tag Device Sensor Event Place Hotel
Flight Airport Supplier Part Gene Protein Drug Disease Recipe Ingredient Project Task Skill Account
Bank Station Line Species Paper Topic""".split()

RELATIONS = """ACTED_IN DIRECTED LIVES_IN WORKS_AT BOUGHT SELLS WROTE STUDIES TEACHES PLAYS_FOR SINGS LIKES FOLLOWS
OWNS KNOWS VISITED RATED CONTAINS PART_OF LOCATED_IN MANAGES REPORTS_TO TREATS CAUSES CITES USES
MAKES SUPPLIES BELONGS_TO ATTENDED WON JOINED REVIEWED TAGGED CONNECTS SERVES OFFERS NEEDS""".split()

CONSONANTS = "b c d f g h j k l m n p r s t v w z br cr dr fl gr pl pr sh st th tr ch".split()
VOWELS = "a e i o u ai ea io ou".split()
CODAS = ["", "", "", "n", "r", "s", "l", "m", "t", "nd", "x"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def is_held_out(text: str) -> bool:
    """Whether a word, or a combination of known words, is kept for tests: decided by its lower-case letters alone."""
    return zlib.crc32(text.lower().encode()) % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True, slots=True)
class Wording:
    """Ways to say one thing, with `{slots}`: those of training, and others that only the second test set uses."""

    seen: tuple[str, ...]
    other: tuple[str, ...]


@dataclass(slots=True)
class Words:
    """Draws slot words and wordings; `held_out` says from which side of the split, `rephrased` which wordings."""

    rng: Random
    pieces: Sequence[str] = ()
    held_out: bool = False
    rephrased: bool = False
    pool_share: float = 0.35
    _pools: dict[int, list[str]] = field(default_factory=dict)

    def pick(self, *choices: T) -> T:
        return choices[int(self.rng.random() * len(choices))]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def form(self, wording: Wording) -> str:
        """One of the ways, its slots still open."""
        return self.pick(*(wording.other if self.rephrased else wording.seen))

    def say(self, wording: Wording, **slots: object) -> str:
        return self.form(wording).format(**slots)

    def number(self, low: int = 1, high: int = 99) -> int:
        return self.rng.randint(low, high)

    def combination(self, draw: Callable[[], T], said: Callable[[T], str] = str) -> T:
        """Drawn until it is on this side of the split: for tasks over a closed list of words."""
        while is_held_out(said(drawn := draw())) != self.held_out:
            continue
        return drawn

    def first_name(self) -> str:
        return self._draw(FIRST_NAMES, str.capitalize)

    def place(self) -> str:
        return self._draw(PLACES, str.capitalize)

    def item(self) -> str:
        return self._draw(ITEMS, str)

    def table(self) -> str:
        return self._draw(TABLES, str)

    def text_column(self) -> str:
        return self._draw(TEXT_COLUMNS, str)

    def number_column(self) -> str:
        return self._draw(NUMBER_COLUMNS, str)

    def label(self) -> str:
        return self._draw(LABELS, str.capitalize)

    def relation(self) -> str:
        return self._draw(RELATIONS, str.upper)

    def plain(self) -> str:
        """Any lower-case word."""
        return self._draw(self.pick(ITEMS, TABLES, TEXT_COLUMNS, NUMBER_COLUMNS), str)

    def distinct(self, draw: Callable[[], str], count: int) -> list[str]:
        found: dict[str, None] = {}
        while len(found) < count:
            found[draw()] = None
        return list(found)

    def _draw(self, pool: list[str], case: Callable[[str], str]) -> str:
        if self.rng.random() < self.pool_share:
            side = self._side(pool)
            if side:
                return side[int(self.rng.random() * len(side))]
        while True:
            word = self._invent()
            if is_held_out(word) == self.held_out:
                return case(word)

    def _side(self, pool: list[str]) -> list[str]:
        key = id(pool)
        if key not in self._pools:
            self._pools[key] = [word for word in pool if is_held_out(word) == self.held_out]
        return self._pools[key]

    def _invent(self) -> str:
        kind = self.rng.random()
        if kind < 0.45 and self.pieces:
            count = self.pick(1, 2, 2, 3)
            word = "".join(self.pieces[int(self.rng.random() * len(self.pieces))] for _ in range(count))
            if 2 <= len(word) <= 14:
                return word
        if kind < 0.87:
            return "".join(
                self.pick(*CONSONANTS) + self.pick(*VOWELS) + self.pick(*CODAS) for _ in range(self.pick(1, 2, 2, 3))
            )
        return "".join(self.pick(*LETTERS) for _ in range(self.rng.randint(3, 7)))
