"""`POST /v1/responses`: the stateless part of OpenAI's newer form. What refers to a stored answer is refused."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from engine.request import FinishReason
from server.exchange import Exchange
from server.message_fields import Function, FunctionName, Message, Open, Part, Tool
from server.openai.fields import OpenAIFields
from server.openai.naming import naming
from server.openai.objects import dumps, usage_object
from server.openai.response_stream import ResponseStream, call_item, message_item, response_object
from server.replies import headers_of, reply_of
from server.schemas import GenerateRequest
from server.visit import Visit
from server.wire import MAX_TOKENS

_STATEFUL = ("previous_response_id", "conversation", "background", "prompt", "context_management")
_HARMLESS: tuple[object, ...] = (None, False, [], {})


class InputItem(Open):
    """A message, a call that was made, or its result."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[Part] | None = None
    call_id: str | None = Field(default=None, max_length=256)
    name: FunctionName | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        needed = {
            "message": (self.role, self.content),
            "function_call": (self.call_id, self.name, self.arguments),
            "function_call_output": (self.call_id, self.output),
        }[self.type]
        if None in needed:
            raise PydanticCustomError("item_incomplete", f"an item of type {self.type!r} lacks a field")
        return self

    def message(self) -> Message:
        if self.type == "function_call":
            call = {"id": self.call_id, "function": {"name": self.name, "arguments": self.arguments}}
            return Message.model_validate({"role": "assistant", "tool_calls": [call]})
        if self.type == "function_call_output":
            return Message(role="tool", content=self.output, tool_call_id=self.call_id)
        return Message.model_validate({"role": self.role, "content": self.content})


class FlatTool(Function):
    """A function, its members not in an object of their own."""

    type: Literal["function"]


class NamedFlatTool(Open):
    type: Literal["function"]
    name: FunctionName


class TextFormat(Open):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, max_length=64)
    schema_: dict[str, object] | None = Field(default=None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if self.type == "json_schema" and self.schema_ is None:
            raise PydanticCustomError("schema_missing", "a format of type 'json_schema' needs schema")
        return self


class TextOptions(Open):
    format: TextFormat | None = None


class ResponseRequest(OpenAIFields):
    """OpenAI's body without its state: `store` true and what refers to stored answers is refused."""

    model_config = ConfigDict(extra="allow")

    input: str | list[InputItem] = Field(min_length=1, max_length=1 << 20)
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    text: TextOptions | None = None
    tools: list[FlatTool] | None = Field(default=None, max_length=64)
    tool_choice: Literal["none", "auto", "required"] | NamedFlatTool | None = None
    parallel_tool_calls: bool | None = None
    store: Literal[False] | None = Field(default=None, description="Nothing is ever stored.")
    truncation: Literal["disabled"] | None = None

    @model_validator(mode="after")
    def _stateless(self) -> Self:
        for name in _STATEFUL:
            if (self.model_extra or {}).get(name) not in _HARMLESS:
                raise PydanticCustomError("stateful", f"{name!r} is not supported: nothing is stored here")
        if isinstance(self.input, list) and len(self.input) > 256:
            raise PydanticCustomError("too_long", "input has more than 256 items")
        if self.n not in (None, 1):
            raise PydanticCustomError("n", "n is not part of this form")
        return self

    @property
    def unknown_fields(self) -> frozenset[str]:
        return super().unknown_fields - {*_STATEFUL, "include", "reasoning", "max_tool_calls"}

    def to_generate(self, base: str) -> GenerateRequest:
        tools = [Tool(type="function", function=Function(**_function(tool))) for tool in self.tools or ()]
        choice = self.tool_choice
        return self.request(
            base,
            self._grammar(),
            messages=self._messages(),
            tools=tools or None,
            tool_choice={"type": "function", "function": {"name": choice.name}}
            if isinstance(choice, NamedFlatTool)
            else choice,
            parallel_tool_calls=self.parallel_tool_calls,
            max_tokens=self.max_output_tokens or self.max_tokens,
        )

    def _grammar(self) -> Any:
        wanted = self.text.format if self.text else None
        if wanted is None:
            return self.grammar_wish()
        if wanted.type == "json_schema":
            return {"json_schema": wanted.schema_}
        return "json_object" if wanted.type == "json_object" else None

    def _messages(self) -> list[Message]:
        """Calls that follow one another are one turn."""
        told = [Message(role="system", content=self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return [*told, Message(role="user", content=self.input)]
        for item in self.input:
            message = item.message()
            last = told[-1] if told else None
            if message.tool_calls and last is not None and last.role == "assistant":
                calls = [*(last.tool_calls or ()), *message.tool_calls]
                told[-1] = Message(role="assistant", content=last.content, tool_calls=calls)
            else:
                told.append(message)
        return told


def _function(tool: FlatTool) -> dict[str, Any]:
    return tool.model_dump(exclude={"type"})


async def respond(exchange: Exchange, body: ResponseRequest, visit: Visit) -> Response:
    """Raises what the rooms raise, and ModelNotFound."""
    services = exchange.services
    asked = body.to_generate(services.base_name)
    with naming(body.model, services.base_name):
        if body.stream:
            return await exchange.stream(
                visit, asked, lambda running: ResponseStream(running, body.model, asked.uses_tools)
            )
        [running], [answers] = await exchange.whole(visit, [asked])
    reply = reply_of(running, answers, asked.uses_tools)
    calls = [
        call_item(call.id, call.function.name, call.function.arguments, "completed") for call in reply.tool_calls or ()
    ]
    text = [message_item(running.id, reply.text, "completed")] if reply.text or not calls else []
    usage = usage_object([reply.usage])
    is_cut = reply.finish_reason is FinishReason.LENGTH
    told = response_object(running.id, body.model, [*text, *calls], usage, "incomplete" if is_cut else "completed")
    return Response(dumps(told), headers=headers_of(running, answers), media_type="application/json")
