"""Stop strings across token boundaries, detokenizing, server-sent events, disconnects."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from engine.errors import EngineStopped
from engine.request import FinishReason, TextPart, Timings, TokenEvent
from server.schemas import TextChunk
from server.streaming import cancelling_on_disconnect, event_of
from server.text_reader import Finish, Piece, StopStrings, Streamed, Thought, Token, Trimmed, joined, read_text
from tests.fakes import ByteDecoder

TIMES = Timings(1, 2, 3, 4)


def cut(text: str, stops: tuple[str, ...]) -> str:
    """The definition: character by character, until one stop string is complete."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return text


class Tokens:
    """A token stream of these bytes; notes when it was cancelled."""

    def __init__(self, data: bytes, reason: FinishReason = FinishReason.STOP) -> None:
        self._data = data
        self._reason = reason
        self.num_prompt_tokens, self.num_cached_tokens = 1, 0
        self.num_given = 0
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def timings(self) -> Timings:
        return TIMES

    async def batches(self) -> AsyncIterator[list[TokenEvent]]:
        for byte in self._data:
            if self.is_cancelled:
                break
            self.num_given += 1
            yield [TokenEvent(token_id=byte)]
        reason = FinishReason.CANCELLED if self.is_cancelled else self._reason
        yield [TokenEvent(finish=reason, timings=TIMES)]


async def read(tokens: Tokens, *stops: str) -> tuple[list[str], Finish]:
    parts = [part async for parts in read_text(tokens, ByteDecoder(), StopStrings(stops)) for part in parts]
    *pieces, finish = parts
    assert isinstance(finish, Finish)
    return [piece.text for piece in pieces if isinstance(piece, Piece)], finish


@given(
    st.lists(st.text("ab", max_size=4), max_size=8),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_the_cut_does_not_depend_on_where_the_pieces_end(pieces: list[str], stops: list[str]) -> None:
    filtering = StopStrings(tuple(stops))
    text = "".join(filtering.push(piece) for piece in pieces) + filtering.flush()
    assert text == cut("".join(pieces), tuple(stops))


@given(st.text("ab", max_size=8), st.text("ab", min_size=1, max_size=4))
def test_only_what_may_become_a_stop_string_is_held_back(text: str, stop: str) -> None:
    filtering = StopStrings((stop,))
    sent = filtering.push(text)
    held = cut(text, (stop,))[len(sent) :]
    assert filtering.is_hit or (held == "" or stop.startswith(held))


def test_without_stop_strings_nothing_is_held_back() -> None:
    assert StopStrings(()).push("anything") == "anything"


def test_after_a_stop_string_nothing_is_given() -> None:
    filtering = StopStrings(("X",))
    assert filtering.push("aXb") == "a"
    assert filtering.push("c") + filtering.flush() == ""


async def test_a_character_of_several_tokens_comes_whole() -> None:
    pieces, finish = await read(Tokens("né🙂".encode()))
    assert pieces == ["n", "é", "🙂"]
    assert finish == Finish(FinishReason.STOP, 7, TIMES)


async def test_a_stop_string_cancels_the_rest_and_counts_as_an_own_end() -> None:
    tokens = Tokens(b"one STOP and much more")
    pieces, finish = await read(tokens, "STOP")
    assert "".join(pieces) == "one "
    assert finish == Finish(FinishReason.STOP, 8, TIMES, by_stop_string=True)
    assert tokens.is_cancelled
    assert tokens.num_given == 8


class Dying(Tokens):
    """Raises as soon as it was cancelled, or at its end."""

    async def batches(self) -> AsyncIterator[list[TokenEvent]]:
        async for [event] in super().batches():
            if event.finish:
                raise EngineStopped("gone")
            yield [event]


async def test_an_answer_that_is_whole_stays_whole_whatever_the_engine_says_then() -> None:
    pieces, finish = await read(Dying(b"one STOP and much more"), "STOP")
    assert "".join(pieces) == "one " and finish == Finish(FinishReason.STOP, 8, TIMES, by_stop_string=True)
    with pytest.raises(EngineStopped):
        await read(Dying(b"one"), "STOP")


async def test_what_was_held_back_comes_when_no_stop_string_follows() -> None:
    pieces, finish = await read(Tokens(b"one ST", FinishReason.LENGTH), "STOP")
    assert "".join(pieces) == "one ST"
    assert finish.reason is FinishReason.LENGTH


async def test_an_unfinished_character_at_the_end_is_still_shown() -> None:
    pieces, _ = await read(Tokens("é".encode()[:1], FinishReason.LENGTH))
    assert "".join(pieces) == "\N{REPLACEMENT CHARACTER}"


async def test_a_stop_string_completed_by_the_decoders_last_words_counts() -> None:
    tokens = Tokens(b"a" + "é".encode()[:1], FinishReason.LENGTH)
    pieces, finish = await read(tokens, "\N{REPLACEMENT CHARACTER}")
    assert "".join(pieces) == "a"
    assert finish.reason is FinishReason.STOP


def test_an_event_is_one_line_whatever_the_text_holds() -> None:
    event = event_of(TextChunk(text="a\r\nb\n\ndata: c").model_dump_json(exclude_none=True))
    assert event == 'data: {"text":"a\\r\\nb\\n\\ndata: c"}\n\n'


async def test_the_work_is_cancelled_when_the_client_leaves() -> None:
    cancelled = asyncio.Event()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async with cancelling_on_disconnect(receive, cancelled.set):
        await asyncio.wait_for(cancelled.wait(), 1)


async def test_the_watch_ends_with_the_work() -> None:
    cancelled = asyncio.Event()
    never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def receive() -> Message:
        return await never

    with pytest.raises(ZeroDivisionError):
        async with cancelling_on_disconnect(receive, cancelled.set):
            raise ZeroDivisionError
    assert not cancelled.is_set()


class Thinker(Tokens):
    """Its text thinks up to the last closing bracket; brackets are marks."""

    async def batches(self) -> AsyncIterator[list[TokenEvent]]:
        num_left = self._data.rindex(b">") + 1
        async for [event] in super().batches():
            if event.token_id is None or num_left == 0:
                yield [event]
                continue
            num_left -= 1
            yield [TokenEvent(event.token_id, part=TextPart.MARK if event.token_id in b"<>" else TextPart.THINKING)]


async def read_both(data: bytes, *stops: str) -> tuple[str, str, Finish]:
    parts = [part async for parts in read_text(Thinker(data), ByteDecoder(), StopStrings(stops)) for part in parts]
    finish = parts.pop()
    assert isinstance(finish, Finish)
    thoughts = "".join(part.text for part in parts if isinstance(part, Thought))
    return thoughts, "".join(part.text for part in parts if isinstance(part, Piece)), finish


async def test_thoughts_and_answer_are_two_texts_and_both_count() -> None:
    thoughts, answer, finish = await read_both("<\nhm é\n\nso\n>it is 4".encode())
    assert (thoughts, answer) == ("hm é\n\nso", "it is 4")
    assert finish == Finish(FinishReason.STOP, 20, TIMES, num_thinking=13)


async def test_stop_strings_do_not_apply_to_thoughts() -> None:
    thoughts, answer, finish = await read_both(b"<a STOP b>one STOP two", "STOP", "b>o", "bo")
    assert (thoughts, answer) == ("a STOP b", "one ")
    assert finish.num_tokens == 18 and finish.reason is FinishReason.STOP


async def test_a_character_that_thinking_leaves_unfinished_does_not_reach_the_answer() -> None:
    thoughts, answer, _ = await read_both(b"<a\xc3>4")
    assert (thoughts, answer) == ("a\ufffd", "4")


async def test_thoughts_that_are_cut_off_lose_nothing() -> None:
    thoughts, answer, _ = await read_both("<né\xf0".encode("latin-1").replace(b"\xe9", "é".encode()) + b">")
    assert (thoughts, answer) == ("né\ufffd", "")


@given(st.lists(st.sampled_from(["\n", "\n\n", "a", "a\n", "\na", "b c", ""])))
def test_trimming_does_not_depend_on_the_pieces(pieces: list[str]) -> None:
    trimmed = Trimmed()
    assert "".join(trimmed.push(piece) for piece in pieces) == "".join(pieces).strip("\n")


def test_neighbouring_pieces_of_one_answer_become_one_and_nothing_passes_anything() -> None:
    one, two, three = Token(1), Token(2), Token(3)
    end = Finish(FinishReason.STOP, 3, TIMES)
    parts: list[Streamed] = [
        Piece("a", (one,)),
        Piece("b", (two,)),
        Piece("c", (three,), 1),
        Thought("t"),
        Piece("d", ()),
        end,
    ]
    assert list(joined(parts)) == [
        Piece("ab", (one, two)),
        Piece("c", (three,), 1),
        Thought("t"),
        Piece("d", ()),
        end,
    ]
    assert list(joined([])) == []


class AtOnce(Tokens):
    """All events in one batch."""

    async def batches(self) -> AsyncIterator[list[TokenEvent]]:
        yield [event async for events in super().batches() for event in events]


async def test_what_came_together_is_read_together_and_cut_at_the_same_place() -> None:
    apart = await read(Tokens(b"one STOP and much more"), "STOP")
    together = await read(AtOnce(b"one STOP and much more"), "STOP")
    assert together == apart
    parts = [parts async for parts in read_text(AtOnce(b"ab"), ByteDecoder(), StopStrings(()))]
    assert parts == [[Piece("a", (Token(97),)), Piece("b", (Token(98),)), Finish(FinishReason.STOP, 2, TIMES)]]
