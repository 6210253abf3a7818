"""`POST /v1/completions`: a text, several, or token ids go on as they are, without a chat template."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from server import schemas
from server.errors import RequestRefused
from server.exchange import Answers, Exchange, error_event
from server.generation import Running
from server.openai.fields import OpenAIFields
from server.openai.naming import naming
from server.openai.objects import REASONS, Extension, Head, OpenAIUsage, dumps, head, usage_object
from server.replies import headers_of, reply_of, scores_of, usage, usage_of
from server.schemas import GenerateRequest, Reply, TokenLogprob, Usage
from server.streaming import DONE, event_of
from server.text_reader import Finish, Streamed, Thought
from server.visit import Visit
from server.wire import MAX_ANSWERS, MAX_LOGPROBS, TokenId, Wire

Text = Annotated[str, Field(min_length=1)]
Ids = Annotated[list[TokenId], Field(min_length=1)]


class CompletionRequest(OpenAIFields):
    """OpenAI's body. `suffix` is not served."""

    prompt: Text | Ids | Annotated[list[Text], Field(min_length=1)] | Annotated[list[Ids], Field(min_length=1)]
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    echo: bool | None = Field(default=None, description="Begin the text with the prompt.")
    best_of: int | None = Field(default=None, ge=1, le=MAX_ANSWERS)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.echo and self.logprobs is not None:
            raise PydanticCustomError("echo_logprobs", "log-probabilities of the prompt are not served")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise PydanticCustomError("best_of", "best_of is served only where it equals n")
        if len(self.prompts) * (self.n or 1) > MAX_ANSWERS:
            raise PydanticCustomError("too_many_answers", f"prompts times n is over the limit of {MAX_ANSWERS}")
        if self.stream and len(self.prompts) > 1:
            raise PydanticCustomError("prompts_streamed", "one prompt at a time can be streamed")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)

    def to_generate(self, base: str) -> list[GenerateRequest]:
        wish = self.grammar_wish()
        return [
            self.request(base, wish, prompt=prompt, raw=True, logprobs=self.logprobs, max_tokens=self.max_tokens)
            for prompt in self.prompts
        ]


class CompletionLogprobs(Wire):
    """OpenAI's older form: lists side by side."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Wire):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    problems: list[str] | None = None


class Completion(Wire):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: OpenAIUsage
    hotseat: Extension


async def complete(exchange: Exchange, body: CompletionRequest, visit: Visit) -> Response:
    """Raises what the rooms raise, and ModelNotFound."""
    services = exchange.services
    asked = body.to_generate(services.base_name)
    num_tokens = len(services.tokenizer)
    for prompt in body.prompts:
        if isinstance(prompt, list) and max(prompt) >= num_tokens:
            raise RequestRefused("prompt", f"token {max(prompt)} does not exist; ids go up to {num_tokens - 1}")
    echoes = [_echo(services.tokenizer.decode, prompt) if body.echo else "" for prompt in body.prompts]
    with naming(body.model, services.base_name):
        if body.stream:
            return await exchange.stream(
                visit,
                asked[0],
                lambda running: _Stream(running, head(services, running, body.model, "cmpl"), body, echoes[0]),
            )
        running, answers = await exchange.whole(visit, asked)
    replies = [reply_of(each, read) for each, read in zip(running, answers, strict=True)]
    completion = Completion(
        **head(services, running[0], body.model, "cmpl").of("text_completion"),  # type: ignore[arg-type]
        choices=_choices(replies, echoes),
        usage=usage_object([reply.usage for reply in replies]),
        hotseat=Extension(experts=replies[0].experts, routing=replies[0].routing),
    )
    headers = headers_of(running[0], answers[0])
    return Response(completion.model_dump_json(), headers=headers, media_type="application/json")


def _echo(decode: Callable[[Sequence[int]], str], prompt: str | list[int]) -> str:
    return prompt if isinstance(prompt, str) else decode(prompt)


def _choices(replies: Sequence[Reply], echoes: Sequence[str]) -> list[CompletionChoice]:
    """Those of the first prompt, then those of the next."""
    found: list[CompletionChoice] = []
    for reply, echo in zip(replies, echoes, strict=True):
        found += [_choice(answer, len(found) + answer.index, echo) for answer in reply.each]
    return found


def _choice(answer: schemas.Answer, index: int, echo: str) -> CompletionChoice:
    return CompletionChoice(
        index=index,
        text=echo + answer.text,
        logprobs=_logprobs(answer.logprobs, 0),
        finish_reason=REASONS[answer.finish_reason],
        problems=answer.problems,
    )


def _logprobs(scores: Sequence[TokenLogprob] | None, offset: int) -> CompletionLogprobs | None:
    """`offset`: where in the answer's text the first token begins."""
    if scores is None:
        return None
    offsets = []
    for score in scores:
        offsets.append(offset)
        offset += len(score.token)
    return CompletionLogprobs(
        tokens=[score.token for score in scores],
        token_logprobs=[score.logprob for score in scores],
        top_logprobs=[{top.token: top.logprob for top in score.top_logprobs} for score in scores],
        text_offset=offsets,
    )


class _Stream:
    def __init__(self, running: Running, head: Head, body: CompletionRequest, echo: str) -> None:
        self._running, self._body, self._echo = running, body, echo
        self._prefix = head.chunk_prefix("text_completion")
        self._offsets = [0 for _ in running.rows]
        self._counts = [0 for _ in running.rows]

    def opening(self) -> Iterable[str]:
        if self._echo:
            for index in range(len(self._running.rows)):
                yield self._chunk(index, self._echo, None, None)

    def part(self, part: Streamed) -> Iterable[str]:
        if isinstance(part, Thought):
            return  # a raw prompt has none
        index = part.index
        if isinstance(part, Finish):
            self._counts[index] = part.num_tokens
            yield self._chunk(index, "", None, REASONS[part.reason], part.problems)
            return
        self._counts[index] += len(part.tokens)
        scores = scores_of(self._running.tokenizer, part.tokens)
        yield self._chunk(index, part.text, _logprobs(scores, self._offsets[index]), None)
        self._offsets[index] += sum(len(score.token) for score in scores or ())

    def closing(self, answers: Answers) -> Sequence[str]:
        if not self._body.has_usage_chunk:
            return (DONE,)
        return (event_of(f'{self._prefix}[],"usage":{_dumped(usage_of(self._running, answers))}}}'), DONE)

    def error(self, error: Exception) -> Sequence[str]:
        return (error_event(error),)

    def _chunk(
        self,
        index: int,
        text: str,
        logprobs: CompletionLogprobs | None,
        reason: str | None,
        problems: Sequence[str] = (),
    ) -> str:
        choice: dict[str, object] = {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
        if logprobs is not None:
            choice["logprobs"] = logprobs.model_dump()
        if problems:
            choice["problems"] = problems
        told = _dumped(usage(self._running, sum(self._counts), 0)) if self._body.counts_always else "null"
        counted = f',"usage":{told}' if self._body.has_usage_chunk else ""
        return event_of(f"{self._prefix}[{dumps(choice)}]{counted}}}")


def _dumped(told: Usage) -> str:
    return dumps(usage_object([told]).model_dump())
