"""Grammar text to a compiled grammar that many sequences share, with a bounded cache of the recent ones.

llama.cpp hangs or dies on hostile grammars. So `compile` is for our library's texts only, and `compile_untrusted`, for
everybody else's, lets `trial` look first. Called by the server as it resolves a request; the engine only sees matchers.
"""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

from grammars.errors import GrammarInvalid, GrammarUntried
from grammars.gbnf import MAX_BYTES
from grammars.masks import DEFAULT_BYTES, MaskCache
from grammars.matcher import Matcher, States
from grammars.native import Sampler
from grammars.terminals import named_ids
from grammars.trial import Trial
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


_Key = tuple[str, str, tuple[int, bool] | None]
"""Text, root, and how a stranger's text is tried; None for a trusted one."""


class GrammarCompiler:
    """Compiles for one vocabulary; safe to call from several threads, which wait for each other over one text only."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        cache_size: int = 64,
        trial: Trial | None = None,
        mask_cache_bytes: int = DEFAULT_BYTES,
    ) -> None:
        """Without a trial, strangers' grammars are refused. The compiler closes it."""
        self._vocabulary = vocabulary
        self._masks = MaskCache(mask_cache_bytes)
        self._cache_size = cache_size
        self._trial = trial
        self._cache: OrderedDict[_Key, CompiledGrammar | GrammarInvalid] = OrderedDict()
        self._running: dict[_Key, Future[CompiledGrammar]] = {}
        self._lock = Lock()

    def compile(self, gbnf: str, root: str = "root") -> CompiledGrammar:
        """A text of our own. Raises GrammarInvalid."""
        return self._once((gbnf, root, None), lambda: self._parsed(gbnf, root))

    def compile_untrusted(
        self, gbnf: str, root: str = "root", max_bytes: int = MAX_BYTES, is_searched: bool = True
    ) -> CompiledGrammar:
        """Anybody's text. Raises GrammarInvalid, or GrammarUntried where it can not be tried first."""

        def tried() -> CompiledGrammar:
            if self._trial is None:
                raise GrammarUntried("this server tries no grammars")
            self._trial.check(gbnf, root, max_bytes, is_searched)
            return self._parsed(gbnf, root)

        return self._once((gbnf, root, (max_bytes, is_searched)), tried)

    def close(self) -> None:
        """End the trial's process; harmless when repeated. What is compiled stays usable."""
        if self._trial is not None:
            self._trial.close()

    def _parsed(self, gbnf: str, root: str) -> CompiledGrammar:
        start = Sampler.parse(self._vocabulary.native, gbnf, root)
        return CompiledGrammar(self._vocabulary, start, named_ids(gbnf, self._vocabulary), self._masks)

    def _once(self, key: _Key, make: Callable[[], CompiledGrammar]) -> CompiledGrammar:
        """From the cache, from the thread that makes it just now, or made here outside the lock."""
        with self._lock:
            if (known := self._cached(key)) is not None:
                return known
            if is_ours := (running := self._running.get(key)) is None:
                running = self._running[key] = Future()
        assert running is not None
        if is_ours:
            self._make(key, make, running)
        return running.result()

    def _make(self, key: _Key, make: Callable[[], CompiledGrammar], running: Future[CompiledGrammar]) -> None:
        try:
            compiled = make()
        except BaseException as fault:
            with self._lock:
                del self._running[key]
                if isinstance(fault, GrammarInvalid) and fault.is_final:
                    self._keep(key, fault)
            running.set_exception(fault)
        else:
            with self._lock:
                del self._running[key]
                self._keep(key, compiled)
            running.set_result(compiled)

    def _cached(self, key: _Key) -> CompiledGrammar | None:
        if (known := self._cache.get(key)) is None:
            return None
        self._cache.move_to_end(key)
        if isinstance(known, GrammarInvalid):
            raise GrammarInvalid(known.reason, known.line, known.column)
        return known

    def _keep(self, key: _Key, made: CompiledGrammar | GrammarInvalid) -> None:
        self._cache[key] = made
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
