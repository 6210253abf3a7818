"""A byte-level BPE tokenizer of 600 tokens with Qwen's special ones, and the vocabulary written from it."""

from collections.abc import Iterator

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from grammars import library
from grammars.compiler import GrammarCompiler
from grammars.vocabulary import Vocabulary, vocabulary_for

NUM_LOGITS = 640
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = [
    '{"name": "Maria", "age": 31, "tags": ["a", "b"], "ok": true, "none": null, "price": -1.5e3}\n{}\n[]',
    "SELECT name, AVG(age) FROM singers WHERE city = 'Porto' AND age > 30 GROUP BY city ORDER BY age DESC;",
    "SELECT DISTINCT a.name FROM a JOIN b ON a.id = b.a_id WHERE a.x IN ('y', 2) OR b.z IS NOT NULL;",
    "select from where order group union join natural left values case null true false distinct index exists",
    "account billing feedback returns shipping technical São Paulo Straße naïve 日本語 🙂 über",
]


def fast_tokenizer(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=595, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([*CORPUS, " ".join(sorted(library.reserved("sql")))] * 3, trainer)
    backend.add_special_tokens([AddedToken(t, special=True) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    backend.add_tokens([AddedToken(t, special=False, normalized=False) for t in ("<think>", "</think>")])
    return fast_tokenizer(backend)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def eos_id(tokenizer: PreTrainedTokenizerFast) -> int:
    return tokenizer.get_vocab()["<|im_end|>"]


@pytest.fixture(scope="session")
def vocabulary(
    tokenizer: PreTrainedTokenizerFast, eos_id: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Vocabulary]:
    vocabulary = vocabulary_for(tokenizer, NUM_LOGITS, (eos_id,), tmp_path_factory.mktemp("vocabulary"))
    yield vocabulary
    vocabulary.close()


@pytest.fixture(scope="session")
def pieces(vocabulary: Vocabulary) -> dict[int, bytes]:
    return vocabulary.native.text_pieces()


@pytest.fixture(scope="session")
def compiler(vocabulary: Vocabulary) -> GrammarCompiler:
    return GrammarCompiler(vocabulary)


class NativeCalls(dict[str, list[object]]):
    """What reached llama.cpp, by function: the last argument of every call."""


@pytest.fixture
def native_calls(monkeypatch: pytest.MonkeyPatch) -> NativeCalls:
    """The real functions of llama.cpp, watched."""
    import llama_cpp

    calls = NativeCalls()
    for name in (
        "llama_sampler_init_grammar",
        "llama_sampler_accept",
        "llama_sampler_free",
        "llama_model_free",
    ):
        calls[name] = []

        def watched(
            *arguments: object, _real: object = getattr(llama_cpp, name), _seen: list[object] = calls[name]
        ) -> object:
            _seen.append(arguments[-1])
            assert callable(_real)
            return _real(*arguments)

        monkeypatch.setattr(llama_cpp, name, watched)
    return calls
