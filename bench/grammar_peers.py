"""How others hold a sampler to a grammar, token by token: make the mask, apply it to the logits, accept the token."""

import ctypes
import importlib.metadata
import importlib.util
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from time import thread_time
from typing import Final

import llama_cpp
import numpy as np
import torch
from torch import Tensor

from grammars.vocabulary import Vocabulary

Step = Callable[[Tensor, int], None]
"""Masks logits [1, vocab] in place, then accepts the token that follows."""

_CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    package: str
    compile: Callable[[str], Callable[[], Step]]
    """Grammar text -> what begins a document."""


class Refused(Exception):
    """The peer does not take this grammar."""


def peers(vocabulary: Vocabulary) -> tuple[list[Peer], list[str]]:
    """Those that are installed, and the names of those that are not."""
    makers = {
        ("llama-cpp-python, full mask", "llama-cpp-python", "llama_cpp"): _llama,
        ("xgrammar", "xgrammar", "xgrammar"): _xgrammar,
        ("llguidance", "llguidance", "llguidance"): _llguidance,
    }
    found, missing = [], []
    for (name, package, module), make in makers.items():
        if importlib.util.find_spec(module) is None:
            missing.append(name)
        else:
            found.append(Peer(f"{name} {importlib.metadata.version(package)}", package, make(vocabulary)))
    return found, missing


def step_seconds(peer: Peer, gbnf: str, tokens: list[int], logits: Tensor) -> list[float]:
    """Of every token of one document, after a first replay that nobody times. Raises Refused."""
    begin = peer.compile(gbnf)
    seconds: list[float] = []
    for is_timed in (False, True):
        step = begin()
        for token in tokens:
            row = logits.clone()
            started = thread_time()
            step(row, token)
            if is_timed:
                seconds.append(thread_time() - started)
            if row[0, token] == -torch.inf:
                raise Refused(f"{peer.name} forbids token {token} of a valid document")
    return seconds


def _llama(vocabulary: Vocabulary) -> Callable[[str], Callable[[], Step]]:
    """As `Llama._init_sampler` has it: the grammar is applied to all tokens of each step."""

    def compile_grammar(gbnf: str) -> Callable[[], Step]:
        rows = np.zeros(vocabulary.num_logits, _CANDIDATE)
        rows["id"] = np.arange(vocabulary.num_logits)
        data = ctypes.cast(rows.ctypes.data, llama_cpp.llama_token_data_p)
        batch = llama_cpp.llama_token_data_array(data, len(rows), -1, False)

        def begin() -> Step:
            sampler = llama_cpp.llama_sampler_init_grammar(vocabulary.native.pointer, gbnf.encode(), b"root")

            def step(logits: Tensor, token: int) -> None:
                found = logits[0].numpy()
                rows["logit"] = found
                llama_cpp.llama_sampler_apply(sampler, ctypes.byref(batch))
                found[:] = rows["logit"]
                llama_cpp.llama_sampler_accept(sampler, token)

            return step

        return begin

    return compile_grammar


def _xgrammar(vocabulary: Vocabulary) -> Callable[[str], Callable[[], Step]]:
    import xgrammar

    pieces = vocabulary.native.text_pieces()
    info = xgrammar.TokenizerInfo(
        [pieces.get(token_id, b"") for token_id in range(vocabulary.num_logits)],
        xgrammar.VocabType.RAW,
        vocab_size=vocabulary.num_logits,
        stop_token_ids=sorted(vocabulary.eos_ids),
    )
    compiler = xgrammar.GrammarCompiler(info, max_threads=1)

    def compile_grammar(gbnf: str) -> Callable[[], Step]:
        try:
            # It wants an empty alternative written out.
            compiled = compiler.compile_grammar(re.sub(r"(::=|\()\s*\|", r'\1 "" |', gbnf))
        except RuntimeError as fault:
            raise Refused(f"xgrammar: {str(fault).splitlines()[0]}") from fault

        def begin() -> Step:
            matcher = xgrammar.GrammarMatcher(compiled)
            bits = xgrammar.allocate_token_bitmask(1, vocabulary.num_logits)

            def step(logits: Tensor, token: int) -> None:
                matcher.fill_next_token_bitmask(bits)
                xgrammar.apply_token_bitmask_inplace(logits, bits)
                matcher.accept_token(token)

            return step

        return begin

    return compile_grammar


def _llguidance(vocabulary: Vocabulary) -> Callable[[str], Callable[[], Step]]:
    import llguidance.llamacpp
    import llguidance.numpy
    from llguidance.gbnf_to_lark import any_to_lark

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it asks llama.cpp by old names
        tokenizer = llguidance.llamacpp.lltokenizer_from_vocab(vocabulary.native.pointer, vocabulary.num_logits)

    def compile_grammar(gbnf: str) -> Callable[[], Step]:
        grammar = llguidance.LLMatcher.grammar_from_lark(any_to_lark(gbnf))

        def begin() -> Step:
            matcher = llguidance.LLMatcher(tokenizer, grammar)
            if matcher.is_error():
                raise Refused(f"llguidance: {matcher.get_error().splitlines()[0]}")
            bits = llguidance.numpy.allocate_token_bitmask(1, vocabulary.num_logits)

            def step(logits: Tensor, token: int) -> None:
                llguidance.numpy.fill_next_token_bitmask(matcher, bits)
                llguidance.numpy.apply_token_bitmask_inplace(logits.numpy(), bits)
                matcher.consume_token(token)

            return step

        return begin

    return compile_grammar
