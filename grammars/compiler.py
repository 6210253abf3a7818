"""Grammar text to a compiled grammar that many sequences share, with a bounded cache of the recent ones.

Trusts its text: llama.cpp hangs or dies on hostile grammars, so callers pass only texts of our library and of
expert packages. Called by the server as it resolves a request; the engine only sees matchers.
"""

from collections import OrderedDict
from threading import Lock

from grammars.masks import DEFAULT_BYTES, MaskCache
from grammars.matcher import Matcher, States
from grammars.native import Sampler
from grammars.terminals import named_ids
from grammars.vocabulary import Vocabulary


class CompiledGrammar:
    """An untouched start state. Immutable, so threads may share it; it lives as long as someone holds it."""

    __slots__ = ("_named_ids", "_start", "_states", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, start: Sampler, named_ids: frozenset[int], masks: MaskCache) -> None:
        self._vocabulary = vocabulary
        self._start = start
        self._named_ids = named_ids
        self._states = States(masks)

    def matcher(self) -> Matcher:
        return Matcher(self._vocabulary, self._start.clone(), self._named_ids, self._states)


class GrammarCompiler:
    """Compiles for one vocabulary; safe to call from several threads."""

    def __init__(self, vocabulary: Vocabulary, cache_size: int = 64, mask_cache_bytes: int = DEFAULT_BYTES) -> None:
        self._vocabulary = vocabulary
        self._masks = MaskCache(mask_cache_bytes)
        self._cache_size = cache_size
        self._cache: OrderedDict[tuple[str, str], CompiledGrammar] = OrderedDict()
        self._lock = Lock()

    def compile(self, gbnf: str, root: str = "root") -> CompiledGrammar:
        """Raises GrammarInvalid. Holds the lock meanwhile: a text that two ask for is compiled once."""
        key = (gbnf, root)
        with self._lock:
            compiled = self._cache.get(key)
            if compiled is None:
                start = Sampler.parse(self._vocabulary.native, gbnf, root)
                compiled = CompiledGrammar(self._vocabulary, start, named_ids(gbnf, self._vocabulary), self._masks)
                self._cache[key] = compiled
            self._cache.move_to_end(key)
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
            return compiled
