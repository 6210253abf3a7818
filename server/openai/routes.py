"""The table of OpenAI's paths. All of them need the scope `generate`."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from server.exchange import Exchange
from server.keys import Caller
from server.openai.chat import ChatCompletion, ChatRequest, complete_chat
from server.openai.completions import Completion, CompletionRequest, complete
from server.openai.embeddings import EmbeddingRequest, Embeddings, embed
from server.openai.models import ModelCard, ModelList, Models
from server.openai.responses import ResponseRequest, respond
from server.openai.tokens import Detokenized, DetokenizeRequest, TokenizeRequest, Tokens, detokenize, tokenize
from server.schemas import ErrorBody
from server.security import KeyFirst, may_generate
from server.visit import Visitor

_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"model": ErrorBody} for status in (400, 401, 403, 404, 408, 413, 421, 429, 431, 500, 503, 504)
}


def api(exchange: Exchange) -> APIRouter:
    models = Models(exchange)

    async def chat_completions(body: ChatRequest, visit: Visitor) -> Response:
        """A conversation goes on."""
        exchange.pass_over("/v1/chat/completions", body.unknown_fields)
        return await complete_chat(exchange, body, visit)

    async def completions(body: CompletionRequest, visit: Visitor) -> Response:
        """A text goes on."""
        exchange.pass_over("/v1/completions", body.unknown_fields)
        return await complete(exchange, body, visit)

    async def responses(body: ResponseRequest, visit: Visitor) -> Response:
        """OpenAI's newer form, without state."""
        exchange.pass_over("/v1/responses", body.unknown_fields)
        return await respond(exchange, body, visit)

    async def embeddings(body: EmbeddingRequest, visit: Visitor) -> Embeddings:
        """Texts to vectors, by the router's encoder."""
        return await embed(exchange, body, visit)

    async def list_models(caller: Annotated[Caller, Depends(may_generate)]) -> ModelList:
        """All names that `model` may have."""
        return await models.all(caller)

    async def show_model(model: str, caller: Annotated[Caller, Depends(may_generate)]) -> ModelCard:
        """One of them."""
        return await models.one(model, caller)

    async def tokenize_text(body: TokenizeRequest, visit: Visitor) -> Tokens:
        """Text or messages to token ids."""
        return await tokenize(exchange, body, visit)

    async def detokenize_ids(body: DetokenizeRequest, visit: Visitor) -> Detokenized:
        """Token ids to text."""
        return await detokenize(exchange, body, visit)

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
