"""A streamed chat completion: a chunk with the role, deltas, a chunk with the reason, usage if asked for, the end."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from server.exchange import Answers, error_event
from server.generation import Running
from server.openai.objects import REASONS, Head, dumps, usage_object
from server.replies import scores_of, usage, usage_of
from server.schemas import TokenLogprob, Usage
from server.streaming import DONE, event_of
from server.text_reader import Finish, Streamed, Thought
from server.tool_reader import CallArguments, CallStart, Part, ToolReader


class StreamOf(Protocol):
    """What of the request shows in its stream."""

    @property
    def uses_tools(self) -> bool: ...
    @property
    def has_usage_chunk(self) -> bool: ...
    @property
    def counts_always(self) -> bool: ...
    def told_reason(self, reason: str, has_calls: bool) -> str: ...


class ChatStream:
    def __init__(self, running: Running, head: Head, asked: StreamOf) -> None:
        self._running, self._asked = running, asked
        self._prefix = head.chunk_prefix("chat.completion.chunk")
        self._readers = [ToolReader() if asked.uses_tools else None for _ in running.rows]
        self._scores: list[list[TokenLogprob]] = [[] for _ in running.rows]  # of what is not sent yet
        self._counts: Counter[int] = Counter()
        self._thought: Counter[int] = Counter()  # of these

    def opening(self) -> Iterable[str]:
        for index in range(len(self._running.rows)):
            yield self._chunk(index, {"role": "assistant", "content": ""})

    def part(self, part: Streamed) -> Iterable[str]:
        if isinstance(part, Finish):
            yield from self._finish(part)
            return
        if isinstance(part, Thought):
            self._counts[part.index] += part.num_tokens
            self._thought[part.index] += part.num_tokens
            yield self._chunk(part.index, {"reasoning_content": part.text})
            return
        self._counts[part.index] += len(part.tokens)
        self._scores[part.index] += scores_of(self._running.tokenizer, part.tokens) or ()
        reader = self._readers[part.index]
        if reader is None:
            yield self._chunk(part.index, {"content": part.text})
        else:
            yield from self._deltas(part.index, reader.push(part.text))

    def closing(self, answers: Answers) -> Sequence[str]:
        told = _dumped(usage_of(self._running, answers))
        counted = [event_of(f'{self._prefix}[],"usage":{told}}}')] if self._asked.has_usage_chunk else []
        return (*counted, DONE)

    def error(self, error: Exception) -> Sequence[str]:
        return (error_event(error),)

    def _finish(self, finish: Finish) -> Iterable[str]:
        reader = self._readers[finish.index]
        if reader is not None:
            yield from self._deltas(finish.index, reader.flush())
        self._counts[finish.index], self._thought[finish.index] = finish.num_tokens, finish.num_thinking
        reason = self._asked.told_reason(REASONS[finish.reason], bool(reader and reader.num_calls))
        yield self._chunk(finish.index, {}, reason, finish.problems)

    def _deltas(self, index: int, parts: Sequence[Part]) -> Iterable[str]:
        for part in parts:
            yield self._chunk(index, _delta(part))

    def _chunk(self, index: int, delta: object, reason: str | None = None, problems: Sequence[str] = ()) -> str:
        scores, self._scores[index] = self._scores[index], []
        choice: dict[str, object] = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        if scores:
            choice["logprobs"] = {"content": [score.model_dump() for score in scores], "refusal": None}
        if problems:
            choice["problems"] = problems
        return event_of(f"{self._prefix}[{dumps(choice)}]{self._usage()}}}")

    def _usage(self) -> str:
        if self._asked.counts_always:
            so_far = usage(self._running, self._counts.total(), self._thought.total())
            return f',"usage":{_dumped(so_far)}'
        return ',"usage":null' if self._asked.has_usage_chunk else ""


def _dumped(told: Usage) -> str:
    return dumps(usage_object([told]).model_dump())


def _delta(part: Part) -> dict[str, object]:
    match part:
        case CallStart(number, call_id, name):
            function = {"name": name, "arguments": ""}
            return {"tool_calls": [{"index": number, "id": call_id, "type": "function", "function": function}]}
        case CallArguments(number, text):
            return {"tool_calls": [{"index": number, "function": {"arguments": text}}]}
    return {"content": part}
