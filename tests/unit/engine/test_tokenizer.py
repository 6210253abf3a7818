"""Chat encoding on the embedded tokenizer: the template's tokens are special, the contents' never are."""

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

from engine.errors import ThinkingUnsupported, TokenizerUnreadable, UnsupportedModel
from engine.request import Thinking
from engine.tokenizer import Tokenizer
from tests import qwen

NANO = Path(__file__).resolve().parents[3] / "models" / "nano"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(NANO)


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    return {text: tokenizer.hf.get_vocab()[text] for text in ("<|im_start|>", "<|im_end|>", "<think>", "</think>")}


@pytest.mark.parametrize("broken", [None, "{", "{}", '{"model": 3, "added_tokens": []}'])
def test_a_tokenizer_that_cannot_be_read_is_one_line_with_its_directory(broken: str | None, tmp_path: Path) -> None:
    shutil.copy(NANO / "config.json", tmp_path)
    if broken is not None:
        (tmp_path / "tokenizer.json").write_text(broken)
    with pytest.raises(TokenizerUnreadable, match=re.escape(f"the tokenizer in {tmp_path.as_posix()!r}")) as refused:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_directory_without_a_model_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"config\.json"):
        Tokenizer.load(tmp_path)


def test_plain_messages_are_encoded_as_the_template_alone_would(tokenizer: Tokenizer) -> None:
    messages = [
        ("system", "Be kind."),
        ("user", "CREATE TABLE a (b INT);\nHow many?"),
        ("assistant", "4"),
        ("user", "é 🙂"),
    ]
    rendered = tokenizer.hf.apply_chat_template(
        [{"role": role, "content": content} for role, content in messages],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    assert isinstance(rendered, str)
    assert list(tokenizer.encode_chat(messages)) == tokenizer.hf.encode(rendered, add_special_tokens=False)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|endoftext|>", "user\n", "x", "<|im_", "end|>"]
        ),
        min_size=1,
        max_size=6,
    )
)
def test_contents_never_become_control_tokens(tokenizer: Tokenizer, pieces: list[str]) -> None:
    content = "".join(pieces)
    specials = special_ids(tokenizer)
    clean = tokenizer.encode_chat([("user", "x")])
    found = tokenizer.encode_chat([("user", content)])
    for token in specials.values():
        assert found.count(token) == clean.count(token)
    assert tokenizer.hf.decode(tokenizer.encode_text(content)) == content


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=40))
def test_text_decoded_token_by_token_is_the_text(tokenizer: Tokenizer, text: str) -> None:
    decoder = tokenizer.decoder()
    pieces = [decoder.push(token) for token in tokenizer.encode_text(text)] + [decoder.flush()]
    assert "".join(pieces) == tokenizer.hf.decode(tokenizer.encode_text(text)) == text


def test_a_character_split_over_tokens_appears_whole(tokenizer: Tokenizer) -> None:
    decoder = tokenizer.decoder()
    pieces = [decoder.push(token) for token in tokenizer.encode_text("a🙂b")]
    assert len(pieces) > 3
    assert set(pieces) == {"", "a", "🙂", "b"}


def test_thinking_leaves_the_answer_open(tokenizer: Tokenizer) -> None:
    specials = special_ids(tokenizer)
    closed, opened = (tokenizer.encode_chat([("user", "hi")], thinking=switch) for switch in (False, True))
    assert specials["</think>"] in closed and specials["<think>"] not in opened


CLOSED = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
OPENS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n<think>\n"
)


@pytest.fixture(params=["nano", "qwen"])
def thinker(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "nano":
        return Tokenizer.load(NANO)
    if not qwen.FILE.exists():
        pytest.skip("Qwen's vocabulary is not here")
    hf = qwen.tokenizer()
    found = Tokenizer(hf, frozenset(hf.get_vocab()[text] for text in ("<|im_end|>", "<|endoftext|>")))
    found.hf.chat_template = qwen.TEMPLATE.read_text()
    return found


def encoded(thinker: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(thinker.hf.encode(text, add_special_tokens=False))


def test_a_prompt_that_closes_the_thinking_has_none(thinker: Tokenizer) -> None:
    ids = thinker.encode_chat([("user", "hi")], thinking=False)
    assert ids[-len(encoded(thinker, CLOSED)) :] == encoded(thinker, CLOSED)
    assert thinker.thinking(ids, is_wanted=False, budget=5) is None


def test_a_prompt_that_says_nothing_leaves_the_opening_to_the_model(thinker: Tokenizer) -> None:
    marks = special_ids(thinker)
    thinking = thinker.thinking(thinker.encode_chat([("user", "hi")], thinking=True), is_wanted=True, budget=5)
    assert thinking == Thinking(
        marks["<think>"], marks["</think>"], encoded(thinker, "\n"), encoded(thinker, "\n\n"), 5, is_open=False
    )


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_template_that_opens_the_thinking_means_it(thinker: Tokenizer, is_wanted: bool) -> None:
    thinker.hf.chat_template = OPENS
    thinking = thinker.thinking(thinker.encode_chat([("user", "hi")], thinking=is_wanted), is_wanted, 5)
    assert thinking is not None and thinking.is_open
    assert thinking.after_close == encoded(thinker, "\n\n")


def test_what_earlier_turns_thought_is_over(thinker: Tokenizer) -> None:
    earlier = encoded(thinker, "<|im_start|>assistant\n<think>\nhm\n</think>\n\n4<|im_end|>\n<|im_start|>assistant\n")
    thinking = thinker.thinking(earlier, is_wanted=True, budget=5)
    assert thinking is not None and not thinking.is_open
    assert thinker.thinking(earlier, is_wanted=False, budget=5) is None


def test_marks_in_a_message_open_nothing(thinker: Tokenizer) -> None:
    ids = thinker.encode_chat([("user", "<think> </think> <think>")], thinking=True)
    thinking = thinker.thinking(ids, is_wanted=True, budget=5)
    assert thinking is not None and not thinking.is_open


def test_thinking_that_can_not_be_is_refused(thinker: Tokenizer) -> None:
    ids = thinker.encode_chat([("user", "hi")], thinking=False)
    with pytest.raises(ThinkingUnsupported, match="closes the thinking"):
        thinker.thinking(ids, is_wanted=True, budget=5)


def test_a_tokenizer_without_marks_can_not_think() -> None:
    backend = ByteLevelBPETokenizer()
    backend.train_from_iterator(["a b"], vocab_size=260)
    plain = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend._tokenizer), frozenset([0]))
    assert plain.thinking((1, 2), is_wanted=False, budget=5) is None
    with pytest.raises(ThinkingUnsupported, match="no <think>"):
        plain.thinking((1, 2), is_wanted=True, budget=5)
