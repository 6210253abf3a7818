"""A streamed response, and the objects that it shares with a whole one. Events are named and numbered."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from engine.request import FinishReason
from server.errors import error_body
from server.exchange import Answers
from server.generation import Running
from server.openai.objects import OpenAIUsage, dumps, usage_object
from server.replies import usage_of
from server.streaming import event_of
from server.text_reader import Piece, Streamed, Thought
from server.tool_reader import CallArguments, CallStart, Part, ToolReader

Object = dict[str, Any]


def text_part(text: str) -> Object:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(request_id: str, text: str | None, status: str) -> Object:
    content = [] if text is None else [text_part(text)]
    item_id = f"msg_{request_id.rpartition('-')[2]}"
    return {"type": "message", "id": item_id, "status": status, "role": "assistant", "content": content}


def call_item(call_id: str, name: str, arguments: str, status: str) -> Object:
    item_id = f"fc_{call_id.removeprefix('call_')}"
    call = {"call_id": call_id, "name": name, "arguments": arguments}
    return {"type": "function_call", "id": item_id, "status": status, **call}


def response_object(
    request_id: str, model: str, output: Sequence[Object], usage: OpenAIUsage | None, status: str
) -> Object:
    """`incomplete` is an answer that its limit cut off."""
    counted = None
    if usage is not None:
        counted = {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.prompt_tokens_details.cached_tokens},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.completion_tokens_details.reasoning_tokens},
            "total_tokens": usage.total_tokens,
        }
    return {
        "id": f"resp_{request_id.rpartition('-')[2]}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "store": False,
        "usage": counted,
    }


class ResponseStream:
    """Items one after another: the text as a message, then calls."""

    def __init__(self, running: Running, model: str, uses_tools: bool) -> None:
        self._running, self._model = running, model
        self._reader = ToolReader() if uses_tools else None
        self._number = 0
        self._done: list[Object] = []
        self._open: Object | None = None
        self._text = ""  # of the open item

    def opening(self) -> Iterable[str]:
        begun = response_object(self._running.id, self._model, (), None, "in_progress")
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)

    def part(self, part: Streamed) -> Iterable[str]:
        """What the model thinks is counted and not shown, as OpenAI has it."""
        if isinstance(part, Thought):
            return
        if isinstance(part, Piece):
            for each in self._reader.push(part.text) if self._reader else [part.text]:
                yield from self._grow(each)
            return
        for each in self._reader.flush() if self._reader else []:
            yield from self._grow(each)
        if self._open is None and not self._done:
            yield from self._begin(message_item(self._running.id, None, "in_progress"))
        yield from self._end()

    def closing(self, answers: Answers) -> Iterable[str]:
        [answer] = answers
        usage = usage_object([usage_of(self._running, answers)])
        status = "incomplete" if answer.finish.reason is FinishReason.LENGTH else "completed"
        told = response_object(self._running.id, self._model, self._done, usage, status)
        yield self._event(f"response.{status}", response=told)

    def error(self, error: Exception) -> Iterable[str]:
        detail = error_body(error).error
        yield self._event("error", code=detail.code, message=detail.message, param=detail.param)

    def _grow(self, part: Part) -> Iterable[str]:
        match part:
            case CallStart(_, call_id, name):
                yield from self._end()
                yield from self._begin(call_item(call_id, name, "", "in_progress"))
            case CallArguments(_, text):
                self._text += text
                yield self._delta("response.function_call_arguments.delta", text)
            case str():
                if self._open is None:
                    yield from self._begin(message_item(self._running.id, None, "in_progress"))
                self._text += part
                yield self._delta("response.output_text.delta", part, content_index=0, logprobs=[])

    def _begin(self, item: Object) -> Iterable[str]:
        self._open, self._text = item, ""
        yield self._event("response.output_item.added", output_index=len(self._done), item=item)
        if item["type"] == "message":
            yield self._of_item("response.content_part.added", content_index=0, part=text_part(""))

    def _end(self) -> Iterable[str]:
        """Close the open item, if there is one."""
        if (item := self._open) is None:
            return
        if item["type"] == "message":
            yield self._of_item("response.output_text.done", content_index=0, text=self._text, logprobs=[])
            yield self._of_item("response.content_part.done", content_index=0, part=text_part(self._text))
            item = {**item, "status": "completed", "content": [text_part(self._text)]}
        else:
            yield self._of_item("response.function_call_arguments.done", arguments=self._text, name=item["name"])
            item = {**item, "status": "completed", "arguments": self._text}
        yield self._event("response.output_item.done", output_index=len(self._done), item=item)
        self._done.append(item)
        self._open = None

    def _delta(self, kind: str, text: str, **members: object) -> str:
        return self._of_item(kind, delta=text, **members)

    def _of_item(self, kind: str, **members: object) -> str:
        assert self._open is not None
        return self._event(kind, item_id=self._open["id"], output_index=len(self._done), **members)

    def _event(self, kind: str, **members: object) -> str:
        self._number += 1
        return event_of(dumps({"type": kind, "sequence_number": self._number - 1, **members}), kind)
