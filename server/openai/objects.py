"""What OpenAI's answers have in common: usage, scores, reasons, heads of objects and chunks."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engine.request import FinishReason
from server.generation import Running
from server.message_fields import ToolCall
from server.schemas import ExpertUsed, Routing, TokenLogprob, Usage
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
    reasoning_content: str | None = None
    """What the model thought first; null where it could not."""
    content: str | None
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


def usage_object(told: Sequence[Usage]) -> OpenAIUsage:
    """Of one request, which may have had several prompts."""
    return OpenAIUsage(
        prompt_tokens=sum(each.prompt_tokens for each in told),
        completion_tokens=sum(each.completion_tokens for each in told),
        total_tokens=sum(each.total_tokens for each in told),
        prompt_tokens_details=PromptDetails(cached_tokens=sum(each.cached_tokens for each in told)),
        completion_tokens_details=CompletionDetails(reasoning_tokens=sum(each.thinking_tokens for each in told)),
    )


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def dumps(value: object) -> str:
    """Compact JSON."""
    return _ENCODER.encode(value)
