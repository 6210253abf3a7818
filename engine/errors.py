"""What the engine refuses, each with the offending value and the limit."""

from collections.abc import Mapping
from pathlib import Path


class EngineError(Exception):
    """Base of all errors that the engine raises on purpose."""


class EngineOverloaded(EngineError):
    """The waiting queue is full; try again later."""

    def __init__(self, queued: int, limit: int) -> None:
        super().__init__(f"the server is full: {queued} requests are waiting, the limit is {limit}")
        self.queued, self.limit = queued, limit


class PromptTooLong(EngineError):
    """The prompt leaves no room for an answer within the context."""

    def __init__(self, tokens: int, limit: int, is_least: bool = False) -> None:
        """`is_least`: it was not counted, and has at least so many."""
        super().__init__(f"the prompt has {'at least ' * is_least}{tokens} tokens, the limit is {limit}")
        self.tokens, self.limit = tokens, limit


class TooManyExperts(EngineError):
    """A request needs more experts at once than there are slots."""

    def __init__(self, count: int, slots: int) -> None:
        super().__init__(f"the request uses {count} experts at once, the server has {slots} slots")
        self.count, self.slots = count, slots


class SamplingInvalid(EngineError):
    """A sampling parameter that this base cannot follow."""

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(f"{field} {fault}")
        self.field, self.fault = field, fault


class ThinkingUnsupported(EngineError):
    """Thinking was asked for, and this base has none."""


class AdapterIncompatible(EngineError):
    """An adapter that cannot be lowered to the engine's form, or not onto this base."""

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"expert {name!r} cannot be served: {fault}")
        self.name, self.fault = name, fault


class UnsupportedModel(EngineError):
    """A base that this engine does not know how to run."""


class TokenizerUnreadable(EngineError):
    """A base whose tokenizer is missing or broken."""

    def __init__(self, directory: Path, fault: str) -> None:
        """Of the fault, the first line is told."""
        super().__init__(f"the tokenizer in {directory.as_posix()!r} cannot be read: {fault.partition(chr(10))[0]}")


class BudgetTooSmall(EngineError):
    """The device memory that the operator gives is less than the base needs for one sequence."""

    def __init__(self, given: int, needed: int, parts: Mapping[str, int]) -> None:
        table = ", ".join(f"{size / 2**20:,.1f} MiB for {name}" for name, size in parts.items())
        super().__init__(
            f"a memory budget of {given / 2**20:,.1f} MiB is too small: at least {needed / 2**20:,.1f} MiB are needed"
            f" ({table})"
        )
        self.given, self.needed = given, needed


class GrammarDeadEnd(EngineError):
    """No token continues the grammar: it asks for text that this vocabulary cannot spell."""


class DeadlineExceeded(EngineError):
    """The time that a request was given is over before its answer is."""

    def __init__(self, deadline_s: float, num_tokens: int | None) -> None:
        """`num_tokens` of the answer were generated; None where the request was never admitted."""
        progress = "it was still queued" if num_tokens is None else f"its answer was at token {num_tokens}"
        super().__init__(f"the request was given {deadline_s:g} seconds, and then {progress}")
        self.deadline_s, self.num_tokens = deadline_s, num_tokens


class LogitsInvalid(EngineError):
    """The model said NaN or infinity; the request cannot go on, the others can."""


class EngineStopped(EngineError):
    """The engine is not running: it was stopped, or its thread died of the error named here."""
