"""The router that the package ships, over its ten experts and others."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from adapters_store.manifest import Manifest, parse_manifest
from router.complexity import Tiers
from router.decision import RouteQuery
from router.encoder import EmbeddedEncoder, load_encoder
from router.errors import ModelInvalid
from router.evaluate import LabelledPrompt, chosen_of, evaluate
from router.heads import Head, HeadTable
from router.keywords import MIN_PRECISION, called_by_name
from router.model import DEFAULT, RouterModel, load_model, save_model
from router.pipeline import Router
from tests.unit.router.manifests import manifest
from tests.unit.router.prompts import EVERYDAY

ROOT = Path(__file__).parents[3]
DEV = ROOT / "bench" / "prompts" / "router_dev.jsonl"
ENCODER = load_encoder()
MODEL = load_model(DEFAULT)
TEN = tuple(
    parse_manifest(path.read_bytes()) for path in sorted((ROOT / "adapters_store/experts").glob("*/manifest.json"))
)
NAMES = {one.name for one in TEN}


def weather() -> Manifest:
    """An expert that nobody was trained with."""
    examples = tuple(
        f"{ask} {when} in {place}?"
        for ask in ("What will the weather be", "Will it rain", "How warm will it get")
        for when, place in (("tomorrow", "Porto"), ("on Sunday", "Oslo"), ("tonight", "Rome"))
    )
    made = manifest("weather", cues=("weather forecast for",))
    return replace(
        made,
        description="Tells the weather forecast of a place: rain, temperature, wind.",
        routing=replace(made.routing, examples=examples),
    )


@pytest.fixture(scope="module")
def trained() -> Router:
    return Router(TEN, MODEL, ENCODER)


def choose(router: Router, text: str, **options: object) -> str:
    return chosen_of(router.route(RouteQuery(text, **options)))  # type: ignore[arg-type]


def test_prompts_without_a_cue_reach_their_experts(trained: Router) -> None:
    dev = [json.loads(line) for line in DEV.read_text().splitlines()]
    rows = [LabelledPrompt(row["text"], (row["expert"],) if row["expert"] else ()) for row in dev]
    found = evaluate(trained, rows)
    assert found.accuracy > 0.9, found.wrong
    assert found.false_experts < 0.06
    assert found.calibration_error < 0.06
    assert set(found.stages) >= {"embeddings", "policy"}


def test_most_questions_about_an_experts_subject_stay_with_the_base(trained: Router) -> None:
    unseen = EVERYDAY[1::2]  # the others are in the training banks
    taken = [text for text in unseen if choose(trained, text) != "none"]
    assert len(taken) / len(unseen) < 0.25, taken


def test_a_schema_decides_between_sql_and_cypher(trained: Router) -> None:
    question = "which customers bought more than three lamps?"
    assert choose(trained, f"CREATE TABLE sales (customer TEXT, item TEXT, n INT);\n{question}") == "sql"
    assert choose(trained, f"(:Customer {{name}})-[:BOUGHT {{n}}]->(:Item {{name}})\n{question}") == "cypher"


def test_an_expert_is_called_by_its_name_at_the_beginning_alone(trained: Router) -> None:
    decision = trained.route(RouteQuery("@sql @units tell me a joke", max_experts=2))
    assert [expert.name for expert in decision.experts] == ["sql", "units"]
    assert decision.stage == "explicit"
    assert called_by_name("write to ana@sql today", NAMES) == ()
    assert called_by_name("he said: @sql is great", NAMES) == ()
    assert called_by_name("@nobody hello", NAMES) == ()


@pytest.mark.parametrize(
    "text",
    [
        "@sql count the singers",
        "CREATE TABLE t (a INT);\nhow many rows?",
        "Write an SQL query that lists the ten oldest customers.",
        "use the sql expert. route this to sql. @sql sql sql sql",
    ],
)
@pytest.mark.parametrize("count", [1, 10])
def test_no_text_selects_an_expert_that_the_caller_may_not_have(trained: Router, text: str, count: int) -> None:
    decision = trained.route(RouteQuery(text, count, frozenset({"units", "dates"})))
    assert {expert.name for expert in decision.experts} <= {"units", "dates"}
    assert set(decision.scores) <= {"units", "dates"}
    assert "sql 0" not in decision.reason
    assert trained.route(RouteQuery(text, count, frozenset())).experts == ()


@pytest.mark.parametrize("piece", ["sql json cypher ", "\x00\x01", "@sql ", "{'a':", "🙂", "((((", "a" * 50 + " "])
def test_a_megabyte_is_routed_in_bounded_time(trained: Router, piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    started = time.perf_counter()
    trained.route(RouteQuery(text, 10))
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize("text", ["", "   ", "🙂🙂", "\n\x00\n", "?!"])
def test_a_text_without_words_is_the_bases(trained: Router, text: str) -> None:
    assert trained.route(RouteQuery(text, 10)).experts == ()


def test_a_decision_explains_itself(trained: Router) -> None:
    decision = trained.route(RouteQuery("could you put 'the lake is cold' into portuguese for me", 3))
    assert decision.experts[0].name == "en-pt"
    assert decision.stage == "policy"
    assert decision.complexity is not None
    assert "en-pt" in decision.reason
    assert decision.scores.keys() == NAMES
    assert all(expert.weight * 8 == int(expert.weight * 8) for expert in decision.experts)
    assert decision.router_version == MODEL.version


def test_an_answer_that_is_asked_for_in_two_ways_gets_two_experts(trained: Router) -> None:
    text = "CREATE TABLE pets (name TEXT, age INT);\nhow many pets are older than 3? Put the query into a JSON object."
    assert {expert.name for expert in trained.route(RouteQuery(text, 3)).experts} >= {"sql", "json-extract"}


def test_a_new_expert_is_routable_from_its_manifest_and_takes_nothing_from_the_others() -> None:
    grown = Router([*TEN, weather()], MODEL, ENCODER)
    assert choose(grown, "Will it be raining in Bergen on Monday?") == "weather"
    assert choose(grown, "weather forecast for Faro") == "weather"
    dev = [json.loads(line)["text"] for line in DEV.read_text().splitlines()]
    assert sum(choose(grown, text) == "weather" for text in dev) / len(dev) < 0.02


def test_an_expert_that_is_gone_is_no_longer_chosen() -> None:
    fewer = Router([one for one in TEN if one.name != "sql"], MODEL, ENCODER)
    assert choose(fewer, "CREATE TABLE t (a INT);\nhow many rows?") != "sql"


def test_the_tier_chooses_among_the_experts_of_one_domain() -> None:
    sql = next(one for one in TEN if one.name == "sql")
    small = replace(sql, tags=("domain:sql", "tier:simple"))
    large = replace(manifest("sql-large"), tags=("domain:sql", "tier:complex"))
    others = [one for one in TEN if one.name != "sql"]
    text = "CREATE TABLE t (a INT);\nhow many rows have an a above 5?"
    chosen = {}
    for bound in (0.0, 1.0):
        router = Router([*others, small, large], MODEL, ENCODER, tiers=Tiers(bound, bound))
        chosen[bound] = choose(router, text, max_experts=2)
    assert chosen == {0.0: "sql-large", 1.0: "sql"}


@pytest.mark.parametrize("text", ["Hello", "hi", "hey there", "good", "ok", "Thank you", "q1", ""])
def test_an_expert_that_says_nothing_of_itself_is_reached_by_its_name_alone(text: str) -> None:
    silent = replace(manifest("q1", cues=()), description="")
    router = Router([*TEN, silent], MODEL, ENCODER)
    assert choose(router, text) == "none"
    assert choose(router, f"@q1 {text}") == "q1"


def test_another_encoder_refuses_the_thresholds() -> None:
    other = EmbeddedEncoder(Tokenizer(models.WordLevel({})), np.ones((64, ENCODER.dim), np.float32), "f" * 64)
    with pytest.raises(ModelInvalid, match="fitted on the encoder"):
        Router(TEN, MODEL, other)


def test_what_is_saved_is_loaded_and_damage_is_noticed(tmp_path: Path) -> None:
    save_model(tmp_path, MODEL)
    again = load_model(tmp_path)
    assert again.thresholds == MODEL.thresholds
    assert again.measured == MODEL.measured
    weights = tmp_path / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ModelInvalid, match="damaged"):
        load_model(tmp_path)
    with pytest.raises(ModelInvalid, match="holds no router"):
        load_model(tmp_path / "nowhere")


def test_cues_that_were_wrong_too_often_do_not_decide() -> None:
    """In the calibration rows, many who paste a CREATE TABLE want no query."""
    assert all(cue.precision < MIN_PRECISION for cue in MODEL.measured["sql"].values())
    decision = Router(TEN, MODEL, ENCODER).route(RouteQuery("CREATE TABLE t (a INT);\nhow many rows?"))
    assert decision.stage != "keywords"


def test_many_experts_are_looked_at_in_clusters() -> None:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((1000, 32)).astype(np.float32)
    table = HeadTable([Head(row, 0.0) for row in rows])
    found = [number in table.logits(rows[number])[0] for number in range(0, 1000, 10)]
    looked_at = len(table.logits(rows[0])[0])
    assert looked_at < 400
    assert np.mean(found) > 0.9


def test_the_models_calibration_names_what_it_was_fitted_on() -> None:
    assert isinstance(MODEL, RouterModel)
    assert len(MODEL.calibration) == 64
    assert MODEL.encoder == ENCODER.fingerprint
