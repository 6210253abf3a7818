"""Every fault the grammars room can raise. The server decides which HTTP status each one becomes."""

from collections.abc import Sequence


class GrammarError(Exception):
    """Base of all faults of this room."""


class GrammarInvalid(GrammarError):
    """The text is no grammar that can be enforced. Line and column count from 1, where the fault has a place.

    A fault that is not final may have come of a busy machine: the same text is tried again when it comes again.
    """

    def __init__(self, reason: str, line: int | None = None, column: int | None = None, is_final: bool = True) -> None:
        where = "" if line is None else f"line {line}, column {column}: "
        super().__init__(f"invalid grammar: {where}{reason}")
        self.reason = reason
        self.line = line
        self.column = column
        self.is_final = is_final


class GrammarUnknown(GrammarError):
    """No library grammar has this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown grammar {name!r}; the library has: {', '.join(known)}")
        self.name = name
        self.known = tuple(known)


class GrammarViolation(GrammarError):
    """A token that the grammar forbids was about to be accepted: a bug of the caller, never of the client."""

    def __init__(self, token_id: int) -> None:
        super().__init__(f"token {token_id} is forbidden at this place of the grammar")
        self.token_id = token_id


class GrammarClosed(GrammarError):
    """A matcher, a grammar or a vocabulary was used after it was closed."""

    def __init__(self) -> None:
        super().__init__("the matcher or its vocabulary is closed")


class VocabularyInvalid(GrammarError):
    """A vocabulary can not be written or read."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"invalid vocabulary: {fault}")
        self.fault = fault


class SchemaTextInvalid(GrammarError):
    """A text that should describe tables or a graph does not, or is beyond a limit."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"invalid schema, line {line}: {reason}")
        self.line = line
        self.reason = reason


class GrammarUntried(GrammarError):
    """A stranger's grammar can not be tried here, so it is not compiled: a fault of the server's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the grammar can not be checked: {reason}")
        self.reason = reason


class RegexUnsupported(GrammarError):
    """A regular expression that is broken, or says what no grammar of ours can enforce."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"unsupported regular expression: {reason}, at character {position}")
        self.reason = reason
        self.position = position


class AutomatonTooLarge(GrammarError):
    """A regular language takes more states, or more work, than the limit; callers turn it into their own fault."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"the language takes more than {limit:,} {what}")
        self.reason = f"it takes more than {limit:,} {what}"


class SchemaUnsupported(GrammarError):
    """A JSON Schema with a keyword that can not be enforced; nothing is ever dropped silently."""

    def __init__(self, keyword: str, pointer: str, reason: str) -> None:
        super().__init__(f"unsupported JSON schema: {keyword!r} at {pointer or '#'}: {reason}")
        self.keyword = keyword
        self.pointer = pointer
        self.reason = reason
