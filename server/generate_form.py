"""How `/generate` looks: one reply, or its text as it comes, then the rest of the reply."""

from collections.abc import Iterable, Sequence

from starlette.responses import Response

from server.exchange import Answers, Exchange, error_event
from server.generation import Running
from server.replies import headers_of, reply_of, scores_of
from server.schemas import GenerateRequest, TextChunk, ThinkingChunk
from server.streaming import DONE, event_of
from server.text_reader import Finish, Streamed, Thought
from server.visit import Visit


async def respond(exchange: Exchange, body: GenerateRequest, visit: Visit) -> Response:
    """One body, or a stream where the request says so."""
    if body.stream:
        return await exchange.stream(visit, body, lambda running: _Stream(running, body))
    [running], [answers] = await exchange.whole(visit, [body])
    reply = reply_of(running, answers, body.uses_tools)
    told = reply.model_dump_json(exclude_none=True)
    return Response(told, headers=headers_of(running, answers), media_type="application/json")


class _Stream:
    """Calls of tools come as the text that the base wrote, and read in the last event."""

    def __init__(self, running: Running, body: GenerateRequest) -> None:
        self._running, self._body = running, body
        self._has_index = len(running.rows) > 1

    def opening(self) -> Iterable[str]:
        return ()

    def part(self, part: Streamed) -> Iterable[str]:
        if isinstance(part, Finish):
            return
        index = part.index if self._has_index else None
        chunk: TextChunk | ThinkingChunk
        if isinstance(part, Thought):
            chunk = ThinkingChunk(thinking=part.text, index=index)
        else:
            scores = scores_of(self._running.tokenizer, part.tokens)
            chunk = TextChunk(text=part.text, index=index, logprobs=scores)
        yield event_of(chunk.model_dump_json(exclude_none=True))

    def closing(self, answers: Answers) -> Sequence[str]:
        reply = reply_of(self._running, answers, self._body.uses_tools)
        dropped = {"text", "thinking", "logprobs"}
        told = reply.model_dump_json(
            exclude_none=True, exclude={**dict.fromkeys(dropped, True), "answers": {"__all__": dropped}}
        )
        return (event_of(told), DONE)

    def error(self, error: Exception) -> Sequence[str]:
        return (error_event(error),)
