"""The form of text-generation-inference and LoRAX: `{"inputs", "parameters"}` in, `generated_text` out.

Accepted on `/generate` beside our own, and streamed by `/generate_stream`; `/` is where Hugging Face's client posts.
The inputs go on as they are, without a chat template. Errors have the shape that its clients read.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import JSONResponse, Response

from engine.request import FinishReason
from server.errors import RequestRefused, error_body, fault_of
from server.exchange import Answers, Exchange
from server.generation import Answer, Running
from server.grammar_fields import GrammarField, RegexGrammar, SchemaGrammar
from server.message_fields import Open
from server.openai.objects import dumps
from server.replies import headers_of
from server.schemas import GenerateRequest
from server.services import TokenizerDoor
from server.text_reader import Piece, Streamed, Token
from server.visit import Visit
from server.wire import MAX_TOKENS, ExpertName, Wire

_BASE_NAMES = ("", "__base_model__")
_NOTHING: tuple[object, ...] = (None, False, [], "")
_REFUSED = (
    "adapter_source api_token decoder_input_details prefill_details prompt_tokens truncate typical_p watermark schema"
).split()
"""Parameters that would change the answer and are not served."""


class AdapterParameters(Open):
    """LoRAX's mixture."""

    adapter_ids: list[ExpertName] = Field(min_length=1, max_length=10)
    weights: list[Annotated[float, Field(gt=0, le=4)]] | None = None
    merge_strategy: Literal["linear"] | None = None

    @model_validator(mode="after")
    def _a_weight_each(self) -> Self:
        if self.weights and len(self.weights) != len(self.adapter_ids):
            raise PydanticCustomError("weights", f"{len(self.weights)} weights for {len(self.adapter_ids)} adapters")
        return self

    def experts(self) -> list[dict[str, object]]:
        weights = self.weights or [1.0] * len(self.adapter_ids)
        return [{"name": name, "weight": weight} for name, weight in zip(self.adapter_ids, weights, strict=True)]


class GrammarParameter(Open):
    """TGI's `grammar` and LoRAX's `response_format`."""

    type: Literal["json", "json_schema", "json_object", "regex"]
    value: str | dict[str, object] | None = None
    schema_: dict[str, object] | None = Field(default=None, alias="schema")

    def wish(self) -> GrammarField:
        value = self.value if self.value is not None else self.schema_
        if self.type == "regex" and isinstance(value, str):
            return RegexGrammar(regex=value)
        if isinstance(value, dict) and self.type != "regex":
            inner = value.get("schema")
            return SchemaGrammar(json_schema=inner if isinstance(inner, dict) else value)
        if self.type == "json_object" and value is None:
            return "json_object"
        raise RequestRefused("grammar", f"a grammar of type {self.type!r} needs another value")


class Parameters(Open):
    """What is left out, the expert decides, then the server."""

    model_config = ConfigDict(extra="allow")

    adapter_id: str | None = Field(default=None, max_length=64, description="An expert; none or '' is the base.")
    adapter_parameters: AdapterParameters | None = None
    best_of: Literal[1] | None = None
    details: bool | None = None
    do_sample: bool | None = None
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    grammar: GrammarParameter | None = None
    ignore_eos_token: bool | None = None
    max_new_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    repetition_penalty: float | None = Field(default=None, ge=0.1, le=10)
    response_format: GrammarParameter | None = None
    return_full_text: bool | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: list[Annotated[str, Field(min_length=1, max_length=64)]] | None = Field(default=None, max_length=8)
    stop_sequences: list[Annotated[str, Field(min_length=1, max_length=64)]] | None = Field(default=None, max_length=8)
    temperature: float | None = Field(default=None, ge=0, le=5)
    top_k: int | None = Field(default=None, ge=0, le=1_000_000)
    top_n_tokens: int | None = Field(default=None, ge=0, le=20)
    top_p: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _nothing_refused(self) -> Self:
        for name in _REFUSED:
            value = (self.model_extra or {}).get(name)
            if value not in _NOTHING and not (name == "adapter_source" and value == "local"):
                raise PydanticCustomError("parameter_unsupported", f"{name!r} is not supported")
        return self

    def told_temperature(self) -> float | None:
        """`do_sample` false is greedy, true alone is the distribution as it is."""
        if self.do_sample is None:
            return self.temperature
        return (1.0 if self.temperature is None else self.temperature) if self.do_sample else 0.0


class TgiRequest(Open):
    """TGI's and LoRAX's body."""

    inputs: str = Field(min_length=1)
    parameters: Parameters = Parameters()
    stream: bool | None = None

    def to_generate(self, has_details: bool) -> GenerateRequest:
        asked = self.parameters
        grammar = asked.grammar or asked.response_format
        fields: dict[str, object] = {
            "temperature": asked.told_temperature(),
            "top_k": asked.top_k,
            "top_p": asked.top_p,
            "repetition_penalty": asked.repetition_penalty,
            "frequency_penalty": asked.frequency_penalty,
            "seed": asked.seed,
            "max_tokens": asked.max_new_tokens,
            "stop": [*(asked.stop or ()), *(asked.stop_sequences or ())][:8],
            "include_stop_str_in_output": True,  # as TGI has it
            "ignore_eos": asked.ignore_eos_token,
            "logprobs": (asked.top_n_tokens or 0) if has_details else None,
        }
        fields |= {"prompt": self.inputs, "raw": True, "experts": _experts(asked)}
        try:
            return GenerateRequest.model_validate({**fields, "grammar": grammar.wish() if grammar else "auto"})
        except ValidationError as faults:
            raise RequestRefused.of(faults) from None


def _experts(asked: Parameters) -> object:
    if asked.adapter_parameters is not None:
        return asked.adapter_parameters.experts()
    if asked.adapter_id is None or asked.adapter_id in _BASE_NAMES:
        return []
    return "auto" if asked.adapter_id == "auto" else [asked.adapter_id]


class TgiToken(Wire):
    id: int
    text: str
    logprob: float | None
    special: bool = False


class TgiDetails(Wire):
    finish_reason: str
    generated_tokens: int
    prompt_tokens: int
    seed: int | None
    prefill: list[TgiToken] = Field(default_factory=list)
    tokens: list[TgiToken] | None = None


class TgiReply(Wire):
    generated_text: str
    details: TgiDetails | None = None


async def generate(exchange: Exchange, body: TgiRequest, visit: Visit, in_list: bool = False) -> Response:
    """Raises what the rooms raise."""
    has_details = bool(body.parameters.details)
    [running], [[answer]] = await exchange.whole(visit, [body.to_generate(has_details)])
    tokens = [_token(running.tokenizer, token) for token in answer.tokens] if has_details else None
    reply = TgiReply(
        generated_text=_text(body, answer),
        details=_details(running, answer, body, tokens) if has_details else None,
    )
    told = reply.model_dump(exclude_none=True)
    return JSONResponse([told] if in_list else told, headers=headers_of(running, [answer]))


async def stream(exchange: Exchange, body: TgiRequest, visit: Visit) -> Response:
    asked = body.to_generate(has_details=True)
    return await exchange.stream(visit, asked, lambda running: _Stream(running, body), by_token=True)


def error_of(error: Exception) -> tuple[int, dict[str, str]]:
    """Status and body as TGI has them; keys, which it does not know, have statuses of their own."""
    fault = fault_of(error)
    kinds = {
        400: (422, "validation"),
        401: (401, "authentication"),
        403: (403, "permission"),
        404: (422, "validation"),
        429: (429, "overloaded"),
        503: (503, "overloaded"),
    }
    status, kind = kinds.get(fault.status, (424, "generation"))
    return status, {"error": error_body(error).error.message, "error_type": kind}


def _text(body: TgiRequest, answer: Answer) -> str:
    return (body.inputs if body.parameters.return_full_text else "") + answer.text


def _details(running: Running, answer: Answer, body: TgiRequest, tokens: list[TgiToken] | None) -> TgiDetails:
    finish = answer.finish
    reason = "stop_sequence" if finish.by_stop_string else "eos_token"
    return TgiDetails(
        finish_reason="length" if finish.reason is FinishReason.LENGTH else reason,
        generated_tokens=finish.num_tokens,
        prompt_tokens=running.rows[0].tokens.num_prompt_tokens,
        seed=body.parameters.seed,
        tokens=tokens,
    )


def _token(tokenizer: TokenizerDoor, token: Token, text: str | None = None) -> TgiToken:
    spelled = tokenizer.token_bytes(token.id).decode(errors="replace")
    logprob = token.logprobs.drawn if token.logprobs else None
    return TgiToken(id=token.id, text=spelled if text is None else text, logprob=logprob)


class _Stream:
    """An event for each token; the last one has the whole text. A character of several tokens comes with its last."""

    def __init__(self, running: Running, body: TgiRequest) -> None:
        self._running, self._body = running, body
        self._held: Piece | None = None  # the last event is only known to be it when the text has ended
        self._number = 0

    def opening(self) -> Iterable[str]:
        return ()

    def part(self, part: Streamed) -> Iterable[str]:
        if isinstance(part, Piece):
            held, self._held = self._held, part
            if held is not None:
                yield from self._events(held)

    def closing(self, answers: Answers) -> Iterable[str]:
        [answer] = answers
        details = _details(self._running, answer, self._body, None)
        last = self._held or Piece("", (Token(0),))
        ending = {"generated_text": _text(self._body, answer), "details": details.model_dump(exclude={"tokens"})}
        yield from self._events(last, ending)

    def error(self, error: Exception) -> Sequence[str]:
        return (f"data:{dumps(error_of(error)[1])}\n\n",)

    def _events(self, piece: Piece, ending: dict[str, Any] | None = None) -> Iterable[str]:
        tokens = piece.tokens or (Token(0),)
        for place, token in enumerate(tokens, 1):
            is_last = place == len(tokens)
            self._number += 1
            told = _token(self._running.tokenizer, token, piece.text if is_last else "")
            event: dict[str, object] = {"index": self._number, "token": told.model_dump(), "generated_text": None}
            event |= (ending or {"details": None}) if is_last else {"details": None}
            yield f"data:{dumps(event)}\n\n"
