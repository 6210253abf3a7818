"""`POST /tokenize` and `/detokenize`, as vLLM has them: what a prompt costs, and what token ids say."""

import asyncio
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from server.bounds import check_length
from server.errors import RequestRefused
from server.exchange import Exchange
from server.generation import encode
from server.message_fields import Message, ToolFields
from server.schemas import GenerateRequest
from server.visit import Visit
from server.wire import TokenId, Wire


class TokenizeRequest(ToolFields):
    """A text as it is, or messages in the base's template."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    prompt: str | None = Field(default=None, min_length=1)
    messages: list[Message] | None = Field(default=None, min_length=1, max_length=256)
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _one_kind_of_text(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("prompt_or_messages", "send either prompt or messages, not both and not none")
        return self


class Tokens(Wire):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(Wire):
    model_config = ConfigDict(extra="allow")

    model: str | None = None
    tokens: Annotated[list[TokenId], Field(max_length=1 << 18)]


class Detokenized(Wire):
    prompt: str


async def tokenize(exchange: Exchange, body: TokenizeRequest, visit: Visit) -> Tokens:
    """Raises PromptTooLong for what no request could send."""
    fields: dict[str, object] = {"prompt": body.prompt, "raw": True}
    if body.messages is not None:
        fields = {"messages": body.messages, "tools": body.tools, "tool_choice": body.tool_choice}
    asked = GenerateRequest.model_validate(fields)
    async with exchange.work(visit) as services:
        check_length(services, asked)
        ids = await asyncio.to_thread(encode, services.tokenizer, asked)
    spelled = services.tokenizer.token_bytes
    return Tokens(
        count=len(ids),
        max_model_len=services.engine.max_context,
        tokens=list(ids),
        token_strs=[spelled(token).decode(errors="replace") for token in ids] if body.return_token_strs else None,
    )


async def detokenize(exchange: Exchange, body: DetokenizeRequest, visit: Visit) -> Detokenized:
    """Raises RequestRefused for an id that is no token."""
    async with exchange.work(visit) as services:
        size = len(services.tokenizer)
        if body.tokens and max(body.tokens) >= size:
            raise RequestRefused("tokens", f"token {max(body.tokens)} does not exist; ids go up to {size - 1}")
        return Detokenized(prompt=await asyncio.to_thread(services.tokenizer.decode, body.tokens))
