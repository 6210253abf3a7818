"""What a grammar forces is what all of its sentences share, and its tokens are the model's own whatever follows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from grammars.compiler import GrammarCompiler
from grammars.forced import MAX_CHARACTERS, Forced, forced
from grammars.json_schema import to_gbnf
from grammars.matcher import Matcher
from grammars.native import Sampler
from grammars.spelling import literal
from grammars.token_table import Ranges
from grammars.tokenization import Tokenization
from grammars.vocabulary import Vocabulary, vocabulary_for
from tests import qwen
from tests.unit.grammars.walks import spell

NANO = Path(__file__).resolve().parents[3] / "models" / "nano"
Pieces = dict[int, bytes]

RECORD = to_gbnf(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "ok": {"type": "boolean"}},
        "required": ["name", "age", "ok"],
        "additionalProperties": False,
    }
)


@dataclass(frozen=True, slots=True)
class Spelling:
    """A tokenizer, and its vocabulary as the grammars see it."""

    hf: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    pieces: Pieces

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.hf.encode(text, add_special_tokens=False)
        return ids

    def certain(self, before: list[int], text: str, followers: Ranges | None) -> list[int]:
        assert self.vocabulary.tokenization is not None
        return self.vocabulary.tokenization.certain_tokens(before, Forced(text, followers))

    def ends(self, ids: list[int]) -> list[int]:
        """Of no token and of each one, in bytes."""
        return [0, *accumulate(len(self.pieces[token]) for token in ids)]


def spelling(hf: PreTrainedTokenizerBase, num_logits: int, directory: Path) -> Iterator[Spelling]:
    vocabulary = vocabulary_for(hf, num_logits, (hf.get_vocab()["<|im_end|>"],), directory)
    yield Spelling(hf, vocabulary, vocabulary.native.text_pieces())
    vocabulary.close()


@pytest.fixture(scope="module")
def qwens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spelling]:
    if not qwen.FILE.exists():
        pytest.skip("Qwen's vocabulary is not here")
    yield from spelling(qwen.tokenizer(), qwen.NUM_LOGITS, tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def nanos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spelling]:
    hf = AutoTokenizer.from_pretrained(NANO, local_files_only=True)
    yield from spelling(hf, 2304, tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module", params=["small", "nano", "qwen"])
def spelled(request: pytest.FixtureRequest) -> Spelling:
    if request.param == "small":
        vocabulary = request.getfixturevalue("vocabulary")
        return Spelling(request.getfixturevalue("tokenizer"), vocabulary, vocabulary.native.text_pieces())
    found: Spelling = request.getfixturevalue({"nano": "nanos", "qwen": "qwens"}[request.param])
    return found


def after(vocabulary: Vocabulary, gbnf: str, text: str) -> Forced:
    """What is forced behind a text, read byte by byte."""
    state = Sampler.parse(vocabulary.native, gbnf, "root")
    for token in spell(vocabulary.native.text_pieces(), text.encode(), longest=1):
        assert state.allows(token)
        state.accept(token)
    reader = state.reader
    assert reader is not None
    found = forced(reader.rules(), reader.stacks())
    assert reader.is_forced == bool(found.text)
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text('ab"é\n', min_size=1, max_size=8), min_size=1, max_size=5), st.data())
def test_what_is_forced_is_what_all_sentences_share(
    vocabulary: Vocabulary, words: list[str], data: st.DataObject
) -> None:
    start = data.draw(st.sampled_from([word[:end] for word in words for end in range(len(word))]))
    gbnf = "root ::= " + " | ".join(literal(word) for word in words)
    rests = [word[len(start) :] for word in words if word.startswith(start)]
    found = after(vocabulary, gbnf, start)
    assert all(rest.startswith(found.text) for rest in rests)
    behind = {rest[len(found.text)] for rest in rests if len(rest) > len(found.text)}
    assert found.followers is not None and {chr(low) for low, _ in found.followers} == behind
    assert len(behind) != 1 or found.text in rests


@pytest.mark.parametrize(
    ("gbnf", "text", "expected", "followers"),
    [
        ('root ::= "ab" [0-9] "c"', "", "ab", ((0x30, 0x39),)),
        ('root ::= "ab" [0-9] "c"', "ab7", "c", ()),
        ('root ::= "a" "b"? "c"', "", "a", ((0x62, 0x62), (0x63, 0x63))),
        ('root ::= "a" | "ab"', "", "a", ((0x62, 0x62),)),
        ('root ::= "a" [^b]', "", "a", None),
        ('root ::= "a" .', "", "a", None),
        ('root ::= x x\nx ::= y | z\ny ::= "qu" "i"\nz ::= "quo"', "", "qu", ((0x69, 0x69), (0x6F, 0x6F))),
        ("root ::= [a] [b-b]", "", "ab", ()),
        ('root ::= "a" <think> "b"', "", "a", None),
    ],
)
def test_forced_text_ends_at_a_choice(
    vocabulary: Vocabulary, gbnf: str, text: str, expected: str, followers: Ranges | None
) -> None:
    found = after(vocabulary, gbnf, text)
    assert found.text == expected
    assert found.followers is None or sorted(set(found.followers)) == sorted(followers or ())
    assert (found.followers is None) == (followers is None)


def test_text_that_is_forced_without_an_end_is_followed_for_a_while(vocabulary: Vocabulary) -> None:
    found = after(vocabulary, 'root ::= "ab" root', "")
    assert found.text == "ab" * (MAX_CHARACTERS // 2)
    assert found.followers is not None


def test_of_many_ways_nothing_is_claimed(vocabulary: Vocabulary) -> None:
    ways = " | ".join(f'"{chr(97 + i % 26)}{i}"' for i in range(200))
    assert after(vocabulary, f'root ::= "x" w\nw ::= {ways}', "") == Forced("x", None)


TEXTS = st.lists(
    st.sampled_from([*"abeno1 2'\"\\:,{}[]<>.-\n\r\t\u00e9\u0301\u00a0日🙂", "name", "the", "'s", "  ", '": "']),
    max_size=12,
).map("".join)
FOLLOWERS = st.none() | st.lists(st.sampled_from("aen1 -\"'\n\té:s"), max_size=4).map(
    lambda found: tuple((ord(character), ord(character)) for character in found)
)


@settings(max_examples=600, deadline=None)
@given(TEXTS, TEXTS.filter(bool), TEXTS, FOLLOWERS, st.data())
def test_certain_tokens_stay_whatever_follows(
    spelled: Spelling, before: str, text: str, rest: str, followers: Ranges | None, data: st.DataObject
) -> None:
    found = spelled.certain(spelled.ids(before), text, followers)
    if followers is not None:
        rest = chr(data.draw(st.sampled_from(followers))[0]) + rest if followers else ""
    whole = spelled.ids(before + text + rest)
    ends = spelled.ends(whole)
    if found:
        first = ends.index(len(before.encode()))
        assert whole[first : first + len(found)] == found
        assert ends[first + len(found)] <= len((before + text).encode())


@pytest.mark.parametrize(
    ("before", "text", "followers", "expected"),
    [
        ('{"', 'name": "', None, ["name", '":']),
        ('{"', 'age": ', ((0x30, 0x39),), ["age", '":']),
        ('{"', 'age":', ((0x30, 0x39),), ["age", '":']),
        ('{"', 'age":', ((0x22, 0x22),), ["age"]),
        ('": 3, "', 'ok": true}', (), ["ok", '":', " true", "}"]),
        ("It", " is ", None, [" is"]),
        ("It", " is", None, []),
        ("a", ":\n  ", None, []),
        ("a", ":\n  b", None, [":\n", " "]),
    ],
)
def test_what_a_longer_token_could_cross_is_left_to_the_model(
    qwens: Spelling, before: str, text: str, followers: Ranges | None, expected: list[str]
) -> None:
    found = qwens.certain(qwens.ids(before), text, followers)
    assert [qwens.hf.decode([token]) for token in found] == expected


def test_a_boundary_that_the_tokenizer_would_not_have_stops_the_jump(qwens: Spelling) -> None:
    """`",` is one token; a model that ends one behind the quote has to write the comma itself."""
    quote, comma, name = qwens.ids('"'), qwens.ids(","), qwens.ids('a", "name": ')
    assert qwens.certain([*qwens.ids("a"), *quote], ', "name": ', None) == []
    assert qwens.certain([*qwens.ids("a"), *quote, *comma], ' "name": ', None) == name[2:5]


def test_texts_that_spell_a_special_token_are_not_jumped_into(spelled: Spelling) -> None:
    assert spelled.certain(spelled.ids("a"), " <think> b c", ()) == []


def test_half_a_character_before_is_left_out(nanos: Spelling) -> None:
    second = spell(nanos.pieces, "é".encode(), longest=1)[1:]
    assert nanos.certain([*second, *nanos.ids(" a")], " b c", ()) == nanos.ids(" b c")
    assert nanos.certain([*nanos.ids(" a"), *second], " b c", ()) == []


def test_another_pre_tokenizer_is_not_believed() -> None:
    hf = AutoTokenizer.from_pretrained(NANO, local_files_only=True)
    backend = type(hf.backend_tokenizer).from_str(hf.backend_tokenizer.to_str())
    assert Tokenization.of(backend, {}) is not None
    backend.pre_tokenizer = hf.backend_tokenizer.pre_tokenizer[1]
    assert Tokenization.of(backend, {}) is None


def walk(matcher: Matcher, ids: list[int]) -> tuple[int, int]:
    """Feed a document; how many tokens were fed and how many forced. What is forced is the document's own."""
    place = num_forced = 0
    while place < len(ids):
        matcher.accept(ids[place])
        place += 1
        found = matcher.forced_tokens()
        assert found == ids[place : place + len(found)]
        for token in found:
            matcher.accept(token)
        place += len(found)
        num_forced += len(found)
    return place - num_forced, num_forced


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=12), st.integers(-(10**9), 10**9), st.booleans())
def test_a_document_is_forced_into_its_own_tokens(spelled: Spelling, name: str, age: int, is_ok: bool) -> None:
    ids = spelled.ids(json.dumps({"name": name, "age": age, "ok": is_ok}, ensure_ascii=False))
    matcher = GrammarCompiler(spelled.vocabulary).compile(RECORD).matcher()
    num_fed, num_forced = walk(matcher, ids)
    assert matcher.must_stop and num_forced >= 7 and num_fed + num_forced == len(ids)
    matcher.close()


def test_nothing_is_forced_inside_a_character_nor_behind_the_end(
    compiler: GrammarCompiler, pieces: Pieces, eos_id: int
) -> None:
    matcher = compiler.compile('root ::= [éa] "b c"').matcher()
    first, second = spell(pieces, "é".encode(), longest=1)
    matcher.accept(first)
    assert matcher.forced_tokens() == []
    matcher.accept(second)
    for token in matcher.forced_tokens():
        matcher.accept(token)
    assert matcher.must_stop and matcher.forced_tokens() == []
    matcher.accept(eos_id)
    assert matcher.forced_tokens() == []
