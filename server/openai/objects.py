"""What OpenAI's answers have in common: usage, scores, reasons, heads of objects and chunks."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engine.request import FinishReason
from server.generation import Running
from server.message_fields import ToolCall
from server.replies import usage
from server.schemas import ExpertUsed, Routing, TokenLogprob
from server.services import Services
from server.wire import Wire

REASONS: Final = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length", FinishReason.CANCELLED: "abort"}


class PromptDetails(Wire):
    cached_tokens: int


class CompletionDetails(Wire):
    reasoning_tokens: int = 0


class OpenAIUsage(Wire):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class ChoiceLogprobs(Wire):
    content: list[TokenLogprob] | None
    refusal: None = None


class ReplyMessage(Wire):
    role: str = "assistant"
    content: str | None
    reasoning_content: str | None = None
    """What the model thought first."""
    refusal: None = None
    tool_calls: list[ToolCall] | None = None


class Extension(Wire):
    """What Hotseat tells beyond OpenAI's form: who answered and why."""

    experts: list[ExpertUsed]
    routing: Routing


@dataclass(frozen=True, slots=True)
class Head:
    """What every object of one answer begins with."""

    id: str
    created: int
    model: str
    fingerprint: str

    def of(self, kind: str) -> dict[str, object]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def chunk_prefix(self, kind: str) -> str:
        """JSON up to where the choices of a chunk come."""
        return dumps(self.of(kind))[:-1] + ',"choices":'


def head(services: Services, running: Running, model: str, prefix: str) -> Head:
    digest = services.engine.fingerprint.rpartition(":")[2][:12]
    return Head(f"{prefix}-{running.id.rpartition('-')[2]}", int(time.time()), model, f"fp_{digest}")


def usage_object(running: Sequence[Running], num_completion: int, num_thinking: int = 0) -> OpenAIUsage:
    """Of one request, which may have had several prompts."""
    told = [usage(each, 0) for each in running]
    num_prompt = sum(each.prompt_tokens for each in told)
    return OpenAIUsage(
        prompt_tokens=num_prompt,
        completion_tokens=num_completion,
        total_tokens=num_prompt + num_completion,
        prompt_tokens_details=PromptDetails(cached_tokens=sum(each.cached_tokens for each in told)),
        completion_tokens_details=CompletionDetails(reasoning_tokens=num_thinking),
    )


def dumps(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
