"""How `/generate` looks: one reply, or its text as it comes, then the rest of the reply."""

from collections.abc import Iterable, Sequence

from fastapi import Request
from starlette.responses import Response

from server.exchange import Answers, Exchange, error_event
from server.generation import Running
from server.replies import reply_of, scores_of
from server.schemas import GenerateRequest, Reply, TextChunk, ThinkingChunk
from server.streaming import DONE, Part, Piece, Thought, event_of


async def respond(exchange: Exchange, body: GenerateRequest, request: Request) -> Response:
    """One body, or a stream where the request says so."""
    if body.stream:
        return await exchange.stream(request, body, lambda running: _Stream(running, body))
    [running], [answers], headers = await exchange.whole(request, [body])
    reply = reply_of(running, answers, body.uses_tools)
    told = reply.model_dump_json(exclude=_unset(reply))
    return Response(told, headers=headers, media_type="application/json")


def _unset(reply: Reply) -> set[str]:
    """What only some requests ask for is left out for the others."""
    return {name for name in ("logprobs", "tool_calls", "problems", "answers") if getattr(reply, name) is None}


class _Stream:
    """Calls of tools come as the text that the base wrote, and read in the last event."""

    def __init__(self, running: Running, body: GenerateRequest) -> None:
        self._running, self._body = running, body
        self._has_index = len(running.rows) > 1

    def opening(self) -> Iterable[str]:
        return ()

    def part(self, part: Part) -> Iterable[str]:
        if isinstance(part, Piece):
            scores = scores_of(self._running.tokenizer, part.tokens)
            chunk = TextChunk(text=part.text, index=part.index if self._has_index else None, logprobs=scores)
            yield event_of(chunk.model_dump_json(exclude_none=True))
        elif isinstance(part, Thought):
            thought = ThinkingChunk(thinking=part.text, index=part.index if self._has_index else None)
            yield event_of(thought.model_dump_json(exclude_none=True))

    def closing(self, answers: Answers) -> Sequence[str]:
        reply = reply_of(self._running, answers, self._body.uses_tools)
        dropped = {"text", "thinking", "logprobs"}
        inner = {"answers": {"__all__": dropped}} if reply.answers else {}
        told = reply.model_dump_json(exclude={**dict.fromkeys(dropped | _unset(reply), True), **inner})
        return (event_of(told), DONE)

    def error(self, error: Exception) -> Sequence[str]:
        return (error_event(error),)
