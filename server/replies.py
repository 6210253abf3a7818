"""What `/generate` tells of an answer, and what all forms tell alike: usage, scores of tokens."""

from collections.abc import Sequence

from engine.request import TokenLogprobs
from server import schemas
from server.generation import Answer, Running
from server.schemas import ExpertUsed, Reply, Routing, Timings, TokenLogprob, TopLogprob, Usage
from server.services import TokenizerDoor
from server.text_reader import Token
from server.tool_reader import read_calls

LOWEST_LOGPROB = -9999.0
"""What minus infinity is written as; OpenAI has the same number."""


def reply_of(running: Running, answers: Sequence[Answer], has_tools: bool = False) -> Reply:
    """All that is known of the answers; the first one's text is the reply's own."""
    told = [answer_of(running, answer, has_tools) for answer in answers]
    first, decision, times = told[0], running.decision, answers[0].finish.timings
    return Reply(
        id=running.id,
        text=first.text,
        thinking=first.thinking,
        finish_reason=first.finish_reason,
        experts=[
            ExpertUsed(
                name=use.adapter.manifest.name,
                version=use.adapter.manifest.version,
                kind=use.adapter.manifest.kind_label,
                weight=use.weight,
            )
            for use in running.experts
        ],
        routing=Routing(
            stage=decision.stage,
            reason=decision.reason,
            confidence=decision.confidence,
            scores=dict(decision.scores),
        ),
        usage=usage_of(running, answers),
        timings=Timings(
            queue_ms=round(times.queue_ms, 3),
            route_ms=round(running.route_ms, 3),
            swap_ms=round(times.swap_ms, 3),
            first_token_ms=round(times.first_token_ms, 3),
            total_ms=round(times.total_ms, 3),
        ),
        logprobs=first.logprobs,
        tool_calls=first.tool_calls,
        problems=first.problems,
        answers=told if len(told) > 1 else None,
    )


def headers_of(running: Running, answers: Sequence[Answer] = ()) -> dict[str, str]:
    """Who answers and where the time goes, for clients that look at no body; a stream's head knows only the routing."""
    names = ",".join(use.adapter.manifest.name for use in running.experts)
    headers = {"x-experts": names or "base"}
    times = {"route": running.route_ms}
    if answers:
        spent = answers[0].finish.timings
        headers["x-swap-time-ms"] = f"{round(spent.swap_ms, 3):g}"
        times |= {
            "queue": spent.queue_ms,
            "swap": spent.swap_ms,
            "first": spent.first_token_ms,
            "total": spent.total_ms,
        }
    headers["server-timing"] = ", ".join(f"{name};dur={ms:.3f}" for name, ms in times.items())
    return headers


def answer_of(running: Running, answer: Answer, has_tools: bool) -> schemas.Answer:
    finish = answer.finish
    text, calls = read_calls(answer.text) if has_tools else (answer.text, [])
    return schemas.Answer(
        index=finish.index,
        text=text,
        thinking=answer.thinking if running.can_think else None,
        finish_reason=finish.reason,
        logprobs=scores_of(running.tokenizer, answer.tokens),
        tool_calls=calls or None,
        problems=list(finish.problems) or None,
    )


def usage_of(running: Running, answers: Sequence[Answer]) -> Usage:
    """Of all answers together; they read one prompt."""
    num_thinking = sum(answer.finish.num_thinking for answer in answers)
    return usage(running, sum(answer.finish.num_tokens for answer in answers), num_thinking)


def usage(running: Running, num_completion: int, num_thinking: int) -> Usage:
    """`num_thinking`: of the completion's tokens, those before the answers."""
    tokens = running.rows[0].tokens
    return Usage(
        prompt_tokens=tokens.num_prompt_tokens,
        cached_tokens=tokens.num_cached_tokens,
        completion_tokens=num_completion,
        thinking_tokens=num_thinking,
        total_tokens=tokens.num_prompt_tokens + num_completion,
    )


def scores_of(tokenizer: TokenizerDoor, tokens: Sequence[Token]) -> list[TokenLogprob] | None:
    """None where no scores were asked for."""
    if not any(token.logprobs for token in tokens):
        return None
    return [_score(tokenizer, token.id, token.logprobs) for token in tokens if token.logprobs]


def _score(tokenizer: TokenizerDoor, token_id: int, logprobs: TokenLogprobs) -> TokenLogprob:
    top = [_top(tokenizer, other, logprob) for other, logprob in logprobs.top]
    return TokenLogprob(**_top(tokenizer, token_id, logprobs.drawn).model_dump(), top_logprobs=top)


def _top(tokenizer: TokenizerDoor, token_id: int, logprob: float) -> TopLogprob:
    spelled = tokenizer.token_bytes(token_id)
    finite = max(logprob, LOWEST_LOGPROB)
    return TopLogprob(token=spelled.decode(errors="replace"), logprob=finite, bytes=list(spelled))
