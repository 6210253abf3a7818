"""From token events to text: stop strings, and pieces of text that are certain, with the tokens that are in them.

Knows tokens and text, not experts or routing, and nothing of HTTP. `generation.py` reads with it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engine.errors import EngineError
from engine.request import FinishReason, TextPart, Timings, TokenEvent, TokenLogprobs
from server.services import TextDecoder, TokenStream


class StopStrings:
    """Cuts a text at the first stop string to be completed, however the text is split into pieces.

    Holds back what may yet become a stop string, and nothing more. Of several that end at the same place the
    longest counts, so the cut never depends on where one token ends and the next begins.
    """

    def __init__(self, stops: tuple[str, ...], is_shown: bool = False) -> None:
        """`is_shown`: the stop string itself is given as well."""
        self._stops, self._is_shown = stops, is_shown
        self._held = ""
        self.is_hit = False

    def push(self, piece: str) -> str:
        """Take the next piece, give what is safe to send."""
        if not self._stops:
            return piece
        if self.is_hit:
            return ""
        text = self._held + piece
        ends = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if ends:
            self.is_hit = True
            self._held = ""
            end, start = min(ends)
            return text[: end if self._is_shown else start]
        keep = self._num_held(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text has ended: give what was held back."""
        held, self._held = self._held, ""
        return held

    def _num_held(self, text: str) -> int:
        """The longest end of the text that begins a stop string."""
        lengths = (n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(lengths, default=0)


class Trimmed:
    """A text without the line feeds around it, however it is split into pieces."""

    def __init__(self) -> None:
        self._held = ""
        self._has_begun = False

    def push(self, piece: str) -> str:
        """Take the next piece, give what is certain."""
        text = self._held + piece if self._has_begun else piece.lstrip("\n")
        self._has_begun = self._has_begun or bool(text)
        certain = text.rstrip("\n")
        self._held = text[len(certain) :]
        return certain


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the answer, its log-probabilities where they were asked for."""

    id: int
    logprobs: TokenLogprobs | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of one answer, and the tokens whose text begins in it."""

    text: str
    tokens: tuple[Token, ...]
    index: int = 0


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of what the model thinks before it answers."""

    text: str
    index: int = 0
    num_tokens: int = 0
    """Tokens of thinking up to its end that came since the last piece."""


@dataclass(frozen=True, slots=True)
class Finish:
    """How a text ended. `num_tokens` counts to the token that completed a stop string, where one did."""

    reason: FinishReason
    num_tokens: int
    timings: Timings
    index: int = 0
    by_stop_string: bool = False
    problems: tuple[str, ...] = ()
    """What the text still lacks to be what was asked for."""
    num_thinking: int = 0
    """Of the tokens, those before the answer."""


Streamed: TypeAlias = Piece | Thought | Finish


class TextReader:
    """Tokens in, pieces out as they become certain. Stop strings are the answer's alone."""

    def __init__(self, decoder: TextDecoder, stops: StopStrings, index: int = 0) -> None:
        self._decoder, self.stops, self._index = decoder, stops, index
        self._thoughts = Trimmed()
        self._waiting: deque[tuple[int, Token]] = deque()  # where the token's text begins
        self._num_read = self._num_given = 0  # characters
        self._num_told = 0  # tokens of thinking
        self.num_tokens = self.num_thinking = 0

    def read(self, events: Iterable[TokenEvent]) -> list[Streamed]:
        """After a stop string nothing but the end is given."""
        found: list[Streamed | None] = []
        for event in events:
            if event.token_id is not None and not self.stops.is_hit:
                found.append(self.push(Token(event.token_id, event.logprobs), event.part))
            if event.finish is not None:
                assert event.timings is not None, "the engine's last event carries timings"
                found += [None if self.stops.is_hit else self.flush(), self.finish(event.finish, event.timings)]
        return [part for part in found if part is not None]

    def push(self, token: Token, part: TextPart = TextPart.ANSWER) -> Piece | Thought | None:
        self.num_tokens += 1
        if part is not TextPart.ANSWER:
            self.num_thinking += 1
            is_text = part is TextPart.THINKING
            return self._thought(self._decoder.push(token.id) if is_text else self._decoder.flush())
        self._waiting.append((self._num_read, token))
        return self._piece(self._read(self._decoder.push(token.id)))

    def flush(self) -> Piece | Thought | None:
        """The tokens have ended."""
        if self.num_thinking and self.num_thinking == self.num_tokens:
            return self._thought(self._decoder.flush())
        tail = self._read(self._decoder.flush()) + self.stops.flush()
        piece = self._piece(tail)
        if self.stops.is_hit or not self._waiting:
            return piece
        rest = tuple(token for _, token in self._waiting)  # of no text
        return Piece(piece.text if piece else "", (piece.tokens if piece else ()) + rest, self._index)

    def finish(self, reason: FinishReason, timings: Timings) -> Finish:
        """As the engine says, unless a stop string was first."""
        is_hit = self.stops.is_hit
        return Finish(
            FinishReason.STOP if is_hit else reason,
            self.num_tokens,
            timings,
            self._index,
            by_stop_string=is_hit,
            num_thinking=self.num_thinking,
        )

    def _thought(self, text: str) -> Thought | None:
        if not (certain := self._thoughts.push(text)):
            return None
        num_tokens, self._num_told = self.num_thinking - self._num_told, self.num_thinking
        return Thought(certain, self._index, num_tokens)

    def _read(self, text: str) -> str:
        self._num_read += len(text)
        return self.stops.push(text)

    def _piece(self, text: str) -> Piece | None:
        if not text:
            return None
        self._num_given += len(text)
        tokens = []
        while self._waiting and self._waiting[0][0] < self._num_given:
            tokens.append(self._waiting.popleft()[1])
        return Piece(text, tuple(tokens), self._index)


def joined(parts: Sequence[Streamed]) -> Iterator[Streamed]:
    """Neighbouring pieces of one answer as one piece."""
    held: list[Piece] = []
    for part in parts:
        if held and not (isinstance(part, Piece) and part.index == held[0].index):
            yield _join(held)
            held = []
        if isinstance(part, Piece):
            held.append(part)
        else:
            yield part
    if held:
        yield _join(held)


def _join(pieces: Sequence[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    tokens = tuple(token for piece in pieces for token in piece.tokens)
    return Piece("".join([piece.text for piece in pieces]), tokens, pieces[0].index)


async def read_text(
    tokens: TokenStream, decoder: TextDecoder, stops: StopStrings, index: int = 0
) -> AsyncIterator[list[Streamed]]:
    """Give the pieces of the text as they become certain, then its end; together what came together.

    What the engine raises once a stop string is complete changes nothing: the answer was whole.
    """
    reader = TextReader(decoder, stops, index)
    try:
        async for events in tokens.batches():
            was_whole = stops.is_hit
            if parts := reader.read(events):
                yield parts
            if stops.is_hit and not was_whole:
                tokens.cancel()
    except EngineError:
        if not stops.is_hit:
            raise
        yield [reader.finish(FinishReason.STOP, tokens.timings())]


async def interleaved(streams: list[AsyncIterator[list[Streamed]]]) -> AsyncIterator[list[Streamed]]:
    """Whatever any of them gives, as it comes. What one raises ends all."""
    if len(streams) == 1:
        async for parts in streams[0]:
            yield parts
        return
    given: asyncio.Queue[list[Streamed] | Exception | None] = asyncio.Queue()

    async def pump(stream: AsyncIterator[list[Streamed]]) -> None:
        try:
            async for parts in stream:
                given.put_nowait(parts)
            given.put_nowait(None)
        except Exception as error:
            given.put_nowait(error)

    pumps = [asyncio.create_task(pump(stream)) for stream in streams]
    try:
        num_left = len(pumps)
        while num_left:
            together: list[Streamed] = []
            for news in [await given.get(), *(given.get_nowait() for _ in range(given.qsize()))]:
                if isinstance(news, Exception):
                    yield together
                    raise news
                if news is None:
                    num_left -= 1
                else:
                    together += news
            yield together
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
