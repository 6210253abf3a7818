"""The embedded base has the marks of thinking and was not trained to think: it answers, and its grammar holds."""

from tests.integration.conftest import OpenServer


async def test_asked_to_think_the_embedded_base_obeys_the_grammar_from_its_first_token(open_server: OpenServer) -> None:
    body = {
        "prompt": "Classify this ticket: I was charged twice.",
        "grammar": {"choice": ["billing", "other"]},
        "enable_thinking": True,
        "max_tokens": 40,
    }
    async with open_server() as client:
        reply = (await client.http.post("/generate", json=body)).json()
    assert reply["text"] in ("billing", "other")
    assert isinstance(reply["thinking"], str) and reply["finish_reason"] == "stop"
    assert reply["usage"]["thinking_tokens"] <= 20 + 4


async def test_an_expert_with_a_short_limit_answers_whole_after_thinking(open_server: OpenServer) -> None:
    body = {"prompt": "Write this date in ISO format: March 5, 2024", "enable_thinking": True}
    async with open_server() as client:
        reply = (await client.http.post("/generate", json=body)).json()
    assert (reply["text"], reply["finish_reason"]) == ("2024-03-05", "stop")
