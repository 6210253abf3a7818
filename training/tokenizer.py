"""The base's own tokenizer: byte-level BPE with Qwen's special tokens, pre-tokenizer and chat format.

Merges are learnt on text split at every space, digit and sign, so a word has the same pieces after a space, a
quote or a bracket; copying is then plain token induction. Published with the ordinary Qwen2 pre-tokenizer.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ISOLATING_SPLIT = r"\p{L}+|\p{N}|\n+| +|[^\s\p{L}\p{N}]|\s"
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKER_TOKENS = ("<think>", "</think>")
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false -%}
<think>

</think>

{% endif -%}
{%- endif -%}
"""


def train_tokenizer(texts: Iterable[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """Learn merges from `texts`; `vocab_size` counts the special tokens, which take the last ids as in Qwen3."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(ISOLATING_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    special = [*CONTROL_TOKENS, *MARKER_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(special),
        min_frequency=200,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    published = Tokenizer(learner.model)
    published.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    published.decoder = decoders.ByteLevel()
    published.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in CONTROL_TOKENS])
    published.add_tokens([AddedToken(token, normalized=False, special=False) for token in MARKER_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=published,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=context,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(directory)
    return tokenizer


def letter_pieces(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Vocabulary entries of lower-case letters alone: what random-piece slot words are made of."""
    return sorted(piece for piece in tokenizer.get_vocab() if piece.isascii() and piece.isalpha() and piece.islower())
