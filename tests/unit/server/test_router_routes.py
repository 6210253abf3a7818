"""`POST /route` and `POST /route/evaluate`."""

import httpx

from router.decision import ExpertScore, RouteDecision
from server.metrics import Metrics
from server.route_metrics import entropy_of


async def post(client: httpx.AsyncClient, path: str, body: object) -> httpx.Response:
    return await client.post(path, json=body)


async def test_a_route_says_what_why_and_how_long(client: httpx.AsyncClient) -> None:
    reply = (await post(client, "/route", {"prompt": "In SQL: count the singers"})).json()
    assert reply["selected"] == [{"expert": "sql", "weight": 1.0, "score": 1.0, "stage": "keywords"}]
    assert reply["abstained"] is False
    assert reply["stage"] == "keywords"
    assert "in sql" in reply["reason"]
    assert reply["scores"]["sql"] == 1.0
    assert reply["complexity"] is None
    assert reply["latency_ms"] > 0
    assert reply["router_version"] == "untrained"


async def test_abstaining_is_an_answer(client: httpx.AsyncClient) -> None:
    reply = (await post(client, "/route", {"messages": [{"role": "user", "content": "hello"}]})).json()
    assert reply["selected"] == []
    assert reply["abstained"] is True
    assert reply["stage"] == "none"


async def test_what_the_caller_may_not_have_is_not_selected_and_not_named(client: httpx.AsyncClient) -> None:
    body = {"prompt": "@sql In SQL: count the singers", "allowed": ["json"]}
    reply = (await post(client, "/route", body)).json()
    assert reply["selected"] == []
    assert reply["scores"].keys() == {"json"}


async def test_a_body_without_text_is_refused(client: httpx.AsyncClient) -> None:
    for body in ({}, {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, {"prompt": "a", "extra": 1}):
        assert (await post(client, "/route", body)).status_code == 400


async def test_an_evaluation_counts_and_lists_the_wrong_rows(client: httpx.AsyncClient) -> None:
    rows = [
        {"text": "in sql, please", "expert": "sql"},
        {"text": "hello", "expert": None},
        {"text": "list the singers", "expert": "sql"},
        {"text": "give me that as json", "expert": "free", "also": ["json"]},
    ]
    reply = (await post(client, "/route/evaluate", {"rows": rows})).json()
    assert reply["rows"] == 4
    assert reply["accuracy"] == 0.75
    assert 0 < reply["accuracy_lower_bound"] < 0.75
    assert reply["false_expert_share"] == 0
    assert reply["confusion"]["sql"] == {"sql": 1, "none": 1}
    assert [row["text"] for row in reply["wrong"]] == ["list the singers"]
    assert reply["stages"] == {"keywords": 2, "none": 2}


async def test_an_evaluation_has_a_bound(client: httpx.AsyncClient) -> None:
    rows = [{"text": "", "expert": None}] * 2001
    assert (await post(client, "/route/evaluate", {"rows": rows})).status_code in (400, 413)
    assert (await post(client, "/route/evaluate", {"rows": []})).status_code == 400


def test_decisions_are_counted_by_stage_expert_and_sureness() -> None:
    metrics = Metrics(lambda: None)
    scores = {"sql": 0.5, "units": 0.5}
    chosen = (ExpertScore("sql", 0.5, 0.5), ExpertScore("units", 0.5, 0.5))
    metrics.count_route(RouteDecision(chosen, "policy", "", 0.97, scores), 0.0003)
    text = metrics.render().decode()
    assert 'hotseat_route_stage_seconds_count{stage="policy"} 1.0' in text
    assert 'hotseat_route_selections_total{expert="units"} 1.0' in text
    assert 'hotseat_route_confidence_bucket{le="0.95"} 0.0' in text
    assert "hotseat_route_selected_sum 2.0" in text
    assert entropy_of([0.5, 0.5]) > 0.69 > entropy_of([1.0, 0.0]) == entropy_of([]) == 0


async def test_routed_answers_are_counted_and_chosen_ones_are_not(client: httpx.AsyncClient) -> None:
    await client.post("/generate", json={"prompt": "In SQL: count the singers"})
    await client.post("/generate", json={"prompt": "hello", "experts": []})
    text = (await client.get("/metrics")).text
    assert 'hotseat_route_stage_seconds_count{stage="keywords"} 1.0' in text
    assert 'hotseat_route_stage_seconds_count{stage="explicit"}' not in text
