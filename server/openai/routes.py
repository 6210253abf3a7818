"""The table of OpenAI's paths."""

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from server.exchange import Exchange
from server.openai.chat import ChatCompletion, ChatRequest, complete_chat
from server.openai.completions import Completion, CompletionRequest, complete
from server.openai.embeddings import EmbeddingRequest, Embeddings, embed
from server.openai.models import ModelCard, ModelList, Models
from server.openai.responses import ResponseRequest, respond
from server.openai.tokens import Detokenized, DetokenizeRequest, TokenizeRequest, Tokens, detokenize, tokenize
from server.schemas import ErrorBody
from server.security import KeyFirst, may_generate

_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"model": ErrorBody} for status in (400, 404, 413, 429, 500, 503, 504)
}


def api(exchange: Exchange) -> APIRouter:
    models = Models(exchange)

    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """A conversation goes on."""
        exchange.pass_over("/v1/chat/completions", body.unknown_fields)
        return await complete_chat(exchange, body, request)

    async def completions(body: CompletionRequest, request: Request) -> Response:
        """A text goes on."""
        exchange.pass_over("/v1/completions", body.unknown_fields)
        return await complete(exchange, body, request)

    async def responses(body: ResponseRequest, request: Request) -> Response:
        """OpenAI's newer form, without state."""
        exchange.pass_over("/v1/responses", body.unknown_fields)
        return await respond(exchange, body, request)

    async def embeddings(body: EmbeddingRequest) -> Embeddings:
        """Texts to vectors, by the router's encoder."""
        return await embed(exchange, body)

    async def list_models() -> ModelList:
        """All names that `model` may have."""
        return await models.all()

    async def show_model(model: str) -> ModelCard:
        """One of them."""
        return await models.one(model)

    async def tokenize_text(body: TokenizeRequest) -> Tokens:
        """Text or messages to token ids."""
        return await tokenize(exchange, body)

    async def detokenize_ids(body: DetokenizeRequest) -> Detokenized:
        """Token ids to text."""
        return await detokenize(exchange, body)

    routes = APIRouter(route_class=KeyFirst, dependencies=[Depends(may_generate)], responses=_ERRORS)
    routes.add_api_route("/v1/chat/completions", chat_completions, methods=["POST"], response_model=ChatCompletion)
    routes.add_api_route("/v1/completions", completions, methods=["POST"], response_model=Completion)
    routes.add_api_route("/v1/responses", responses, methods=["POST"], response_model=dict[str, object])
    routes.add_api_route("/v1/embeddings", embeddings, methods=["POST"])
    routes.add_api_route("/v1/models", list_models, methods=["GET"])
    routes.add_api_route("/v1/models/{model:path}", show_model, methods=["GET"])
    routes.add_api_route("/tokenize", tokenize_text, methods=["POST"])
    routes.add_api_route("/detokenize", detokenize_ids, methods=["POST"])
    return routes
