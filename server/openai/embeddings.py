"""`POST /v1/embeddings`: the vectors of the router's own encoder. No base is asked, so it answers in microseconds."""

import asyncio
import base64
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from router.encoder import Encoder
from server.errors import ModelNotFound, RequestRefused
from server.exchange import Exchange
from server.message_fields import Open
from server.services import Services
from server.visit import Visit
from server.wire import TokenId, Wire

ENCODER = "encoder"
Text = Annotated[str, Field(min_length=1, max_length=1 << 18)]
Ids = Annotated[list[TokenId], Field(min_length=1, max_length=1 << 17)]


class EmbeddingRequest(Open):
    """OpenAI's body."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(default=ENCODER, max_length=256, description="'encoder', or the base's id.")
    input: (
        Text
        | Ids
        | Annotated[list[Text], Field(min_length=1, max_length=256)]
        | Annotated[list[Ids], Field(min_length=1)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1, le=65_536)


class Embedding(Wire):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Wire):
    prompt_tokens: int
    total_tokens: int


class Embeddings(Wire):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


async def embed(exchange: Exchange, body: EmbeddingRequest, visit: Visit) -> Embeddings:
    """Raises ModelNotFound for a model that has no vectors, RequestRefused for a length that they do not have."""
    async with exchange.work(visit) as services:
        return await _embedded(services, body)


async def _embedded(services: Services, body: EmbeddingRequest) -> Embeddings:
    if services.encoder is None:
        raise ModelNotFound(body.model, "has no vectors: this server runs without an encoder")
    if body.model not in (ENCODER, services.base_name):
        raise ModelNotFound(body.model, f"has no vectors; send {ENCODER!r}, or the base's id {services.base_name!r}")
    if body.dimensions not in (None, services.encoder.dim):
        raise RequestRefused("dimensions", f"is {body.dimensions}; the encoder's vectors have {services.encoder.dim}")
    tokenizer, num_tokens = services.tokenizer, len(services.tokenizer)
    texts = []
    for each in _inputs(body):
        if isinstance(each, list) and max(each) >= num_tokens:
            raise RequestRefused("input", f"token {max(each)} does not exist; ids go up to {num_tokens - 1}")
        texts.append(each if isinstance(each, str) else tokenizer.decode(each))
    vectors, count = await asyncio.to_thread(
        lambda encoder: (_vectors(encoder, texts, body), sum(len(tokenizer.encode_text(text)) for text in texts)),
        services.encoder,
    )
    data = [Embedding(index=index, embedding=vector) for index, vector in enumerate(vectors)]
    return Embeddings(data=data, model=body.model, usage=EmbeddingUsage(prompt_tokens=count, total_tokens=count))


def _inputs(body: EmbeddingRequest) -> list[str | list[int]]:
    if isinstance(body.input, str) or (body.input and isinstance(body.input[0], int)):
        return [body.input]
    return list(body.input)  # type: ignore[arg-type]


def _vectors(encoder: Encoder, texts: list[str], body: EmbeddingRequest) -> list[list[float] | str]:
    found = encoder.encode(texts).astype("<f4")
    if body.encoding_format == "base64":
        return [base64.b64encode(vector.tobytes()).decode() for vector in found]
    return [vector.tolist() for vector in found]
