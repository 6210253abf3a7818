"""Chat encoding on the embedded tokenizer: the template's tokens are special, the contents' never are."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tokenizer import Tokenizer

NANO = Path(__file__).resolve().parents[3] / "models" / "nano"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(NANO)


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    return {text: tokenizer.hf.get_vocab()[text] for text in ("<|im_start|>", "<|im_end|>", "<think>", "</think>")}


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
