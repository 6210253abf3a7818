"""`POST /v1/chat/completions`: OpenAI's body and object. The stream is in `chat_stream.py`."""

from typing import Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from server import schemas
from server.exchange import Exchange
from server.message_fields import Message, NamedTool, ToolFields
from server.openai.chat_stream import ChatStream
from server.openai.fields import OpenAIFields, TemplateFields
from server.openai.naming import naming
from server.openai.objects import REASONS, ChoiceLogprobs, Extension, OpenAIUsage, ReplyMessage, head, usage_object
from server.replies import headers_of, reply_of
from server.schemas import GenerateRequest
from server.visit import Visit
from server.wire import MAX_LOGPROBS, MAX_TOKENS, Wire


class ChatRequest(OpenAIFields, ToolFields):
    """OpenAI's body, with vLLM's and our own fields. What a field left out means, the expert says, then the server."""

    model_config = ConfigDict(extra="allow")

    messages: list[Message] = Field(min_length=1, max_length=256)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    echo: Literal[False] | None = None
    chat_template_kwargs: TemplateFields | None = Field(
        default=None, description="`enable_thinking` lets the model think before it answers."
    )
    thinking_budget: int | None = Field(
        default=None, ge=1, le=MAX_TOKENS, description="Tokens of thinking, after which the answer begins."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("top_logprobs_unused", 'top_logprobs goes with "logprobs": true')
        if self.uses_tools and self.grammar_wish() not in ("auto", None):
            raise PydanticCustomError("tools_and_grammar", "tools have a grammar of their own; send one or the other")
        if self.thinking_budget is not None and not self.thinks:
            raise PydanticCustomError(
                "budget_without_thinking", 'thinking_budget needs "chat_template_kwargs": {"enable_thinking": true}'
            )
        return self

    @property
    def thinks(self) -> bool:
        return bool(self.chat_template_kwargs and self.chat_template_kwargs.enable_thinking)

    @property
    def uses_tools(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"

    def told_reason(self, reason: str, has_calls: bool) -> str:
        """`tool_calls` where the base chose to call; `stop` where it was told which function, as OpenAI has it."""
        is_choice = has_calls and reason == "stop" and not isinstance(self.tool_choice, NamedTool)
        return "tool_calls" if is_choice else reason

    def to_generate(self, base: str) -> GenerateRequest:
        return self.request(
            base,
            "auto" if self.uses_tools else self.grammar_wish(),
            messages=self.messages,
            tools=self.tools,
            tool_choice=self.tool_choice,
            parallel_tool_calls=self.parallel_tool_calls,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            enable_thinking=self.thinks,
            thinking_budget=self.thinking_budget,
        )


class ChatChoice(Wire):
    index: int
    message: ReplyMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: str
    problems: list[str] | None = None


class ChatCompletion(Wire):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: OpenAIUsage
    hotseat: Extension


async def complete_chat(exchange: Exchange, body: ChatRequest, visit: Visit) -> Response:
    """Raises what the rooms raise, and ModelNotFound."""
    services = exchange.services
    asked = body.to_generate(services.base_name)
    with naming(body.model, services.base_name):
        if body.stream:
            return await exchange.stream(
                visit,
                asked,
                lambda running: ChatStream(running, head(services, running, body.model, "chatcmpl"), body),
            )
        [running], [answers] = await exchange.whole(visit, [asked])
    reply = reply_of(running, answers, asked.uses_tools)
    completion = ChatCompletion(
        **head(services, running, body.model, "chatcmpl").of("chat.completion"),  # type: ignore[arg-type]
        choices=[_choice(answer, body) for answer in reply.each],
        usage=usage_object([reply.usage]),
        hotseat=Extension(experts=reply.experts, routing=reply.routing),
    )
    headers = headers_of(running, answers)
    return Response(completion.model_dump_json(), headers=headers, media_type="application/json")


def _choice(answer: schemas.Answer, body: ChatRequest) -> ChatChoice:
    calls = answer.tool_calls
    return ChatChoice(
        index=answer.index,
        message=ReplyMessage(
            reasoning_content=answer.thinking,
            content=None if calls and not answer.text else answer.text,
            tool_calls=calls,
        ),
        logprobs=None if answer.logprobs is None else ChoiceLogprobs(content=answer.logprobs),
        finish_reason=body.told_reason(REASONS[answer.finish_reason], bool(calls)),
        problems=answer.problems,
    )
