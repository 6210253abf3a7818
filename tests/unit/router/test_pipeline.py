"""The router over the hints of the embedded experts."""

import json
import time
from pathlib import Path

import pytest

from router.decision import RouteQuery
from router.pipeline import Router
from tests.unit.router.hints import HINTS
from tests.unit.router.prompts import (
    CYPHER,
    DATES,
    EN_PT,
    EVERYDAY,
    FORMAL_TONE,
    JSON_EXTRACT,
    JSON_REPAIR,
    SQL,
    TICKET_TRIAGE,
    TYPESCRIPT,
    UNITS,
)

CLINC = Path(__file__).parents[4] / "shared" / "data" / "clinc150" / "data_full.json"
POSITIVES = [
    *(("json-extract", prompt) for prompt in JSON_EXTRACT),
    *(("json-repair", prompt) for prompt in JSON_REPAIR),
    *(("formal-tone", prompt) for prompt in FORMAL_TONE),
    *(("en-pt", prompt) for prompt in EN_PT),
    *(("typescript", prompt) for prompt in TYPESCRIPT),
    *(("sql", prompt) for prompt in SQL),
    *(("cypher", prompt) for prompt in CYPHER),
    *(("ticket-triage", prompt) for prompt in TICKET_TRIAGE),
    *(("dates", prompt) for prompt in DATES),
    *(("units", prompt) for prompt in UNITS),
]
# Words that are at home in any prompt: alone they give nothing away.
EVERYDAY_WORDS = """table select query join graph node path interface type class function script object schema
format list order translate calculate text name ticket label category support extract pull json sql fix repair valid
formal polite tone portuguese english typescript cypher nodes date dates iso convert km kg""".split()


def choice(router: Router, text: str) -> str:
    decision = router.route(RouteQuery(text))
    return decision.experts[0].name if decision.experts else "none"


def test_the_list_of_everyday_prompts_is_long_enough_to_mean_something() -> None:
    assert len(set(EVERYDAY)) == len(EVERYDAY) >= 60


@pytest.mark.parametrize("prompt", EVERYDAY)
def test_a_prompt_that_needs_no_expert_stays_with_the_base(router: Router, prompt: str) -> None:
    decision = router.route(RouteQuery(prompt, max_experts=10))
    assert decision.stage == "none", decision.reason
    assert decision.experts == ()


@pytest.mark.parametrize(("expert", "prompt"), POSITIVES)
def test_a_naturally_phrased_task_reaches_its_expert(router: Router, expert: str, prompt: str) -> None:
    decision = router.route(RouteQuery(prompt))
    assert [chosen.name for chosen in decision.experts] == [expert], decision.reason
    assert decision.stage == "keywords"
    assert expert in decision.reason
    assert decision.scores.keys() == HINTS.keys()


@pytest.mark.parametrize("expert", HINTS)
def test_the_examples_of_an_expert_reach_it(router: Router, expert: str) -> None:
    assert {choice(router, example) for example in HINTS[expert].examples} == {expert}


@pytest.mark.parametrize("expert", HINTS)
def test_no_expert_is_triggered_by_one_everyday_word(expert: str) -> None:
    assert not {cue.strip("^") for cue in HINTS[expert].cues} & set(EVERYDAY_WORDS)


def test_the_text_of_a_ticket_does_not_decide(router: Router) -> None:
    assert choice(router, "Classify this ticket: the export as JSON fails, how do I write SQL?") == "ticket-triage"


def test_people_outside_the_ten_domains_are_not_sent_to_an_expert(router: Router) -> None:
    if not CLINC.exists():
        pytest.skip("CLINC150 does not lie beside the checkout")
    prompts = [text for split in json.loads(CLINC.read_text()).values() for text, _ in split]
    wrong = [text for text in prompts if choice(router, text) != "none"]
    assert len(prompts) > 20_000
    assert len(wrong) / len(prompts) < 0.005, wrong[:20]


def test_a_decision_takes_well_under_ten_milliseconds(router: Router) -> None:
    started = time.perf_counter()
    for prompt in EVERYDAY:
        router.route(RouteQuery(prompt))
    assert (time.perf_counter() - started) / len(EVERYDAY) < 0.01
