"""What a schema admits, asked of llama.cpp through the grammar that we wrote."""

import json
import time
from contextlib import suppress
from random import Random

import pytest

from grammars.compiler import GrammarCompiler
from grammars.errors import SchemaUnsupported
from grammars.json_schema import Draft, to_gbnf, validate
from grammars.json_schema.keywords import ANNOTATIONS, SUPPORTED
from tests.unit.grammars.instances import Speaker
from tests.unit.grammars.walks import feed, shared, spell

TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"value": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["value"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
CLOSED = {"type": "object", "additionalProperties": False}
ABC = {"a": {"type": "integer"}, "b": {"type": "boolean"}, "c": {"type": "null"}}

# schema, values that satisfy it, values that do not
CASES: list[tuple[object, list[object], list[object]]] = [
    (True, [None, 1, "x", [1, {"a": [True]}], {}], []),
    ({"minLength": 2}, ["ab", 1, None, {}, []], ["a", ""]),
    ({"type": ["integer", "null"]}, [1, 1.0, -3, None], [1.5, "1", True]),
    ({"const": {"a": [1, "x"]}}, [{"a": [1, "x"]}, {"a": [1.0, "x"]}], [{"a": [1]}, {}, True]),
    ({"enum": [0, False, "no", None]}, [0, False, "no", None], [1, True, "", "n"]),
    ({"enum": ["a", "ab", 1], "type": "string", "minLength": 2}, ["ab"], ["a", 1]),
    ({**CLOSED, "properties": ABC}, [{}, {"a": 1}, {"b": True}, {"a": 1, "c": None}], [{"d": 1}, {"a": "x"}, {"b": 0}]),
    ({**CLOSED, "properties": ABC, "required": ["b"]}, [{"b": True}, {"a": 1, "b": True}], [{}, {"a": 1, "c": None}]),
    ({"type": "object", "properties": {"a": {"type": "integer"}}}, [{"a": 1, "x": "y"}, {"aa": "x"}], [{"a": "x"}]),
    ({"properties": {"a": False}, "type": "object"}, [{}, {"b": 1}], [{"a": 1}]),
    (
        {"type": "object", "patternProperties": {"^n": {"type": "integer"}}, "additionalProperties": {"type": "null"}},
        [{"n": 1}, {"no": 1, "x": None}, {}],
        [{"n": None}, {"x": 1}],
    ),
    (
        {"type": "object", "properties": {"foo": {"maxItems": 1}}, "patternProperties": {"f.o": {"minItems": 1}}},
        [{"foo": [1]}, {"fxo": [1, 2]}, {"foo": 1}],
        [{"foo": []}, {"foo": [1, 2]}, {"fxo": []}],
    ),
    ({"type": "object", "propertyNames": {"enum": ["a", "b"]}}, [{}, {"a": 1, "b": 2}], [{"c": 1}, {"": 1}]),
    ({"type": "object", "propertyNames": {"pattern": "^[a-c]+$"}}, [{}, {"ab": 1}], [{"d": 1}, {"": 1}]),
    ({"type": "object", "properties": ABC, "minProperties": 1, "maxProperties": 2}, [{"a": 1}, {"q": 1}], [{}]),
    ({**CLOSED, "properties": ABC, "minProperties": 2}, [{"a": 1, "c": None}], [{"a": 1}, {}]),
    ({**CLOSED, "properties": ABC, "maxProperties": 1}, [{}, {"c": None}], [{"a": 1, "b": True}]),
    ({**CLOSED, "properties": ABC, "dependentRequired": {"a": ["b"]}}, [{"c": None}, {"a": 1, "b": True}], [{"a": 1}]),
    ({**CLOSED, "properties": ABC, "dependentSchemas": {"a": {"required": ["c"]}}}, [{"a": 1, "c": None}], [{"a": 1}]),
    (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        [[1], [1, 2]],
        [[], [1, 2, 3], ["x"]],
    ),
    ({"prefixItems": [{"type": "integer"}], "items": False}, [[], [1], "x"], [["x"], [1, 1]]),
    (
        {"$schema": DRAFT_7, "items": [{"type": "integer"}], "additionalItems": {"type": "null"}},
        [[1, None], []],
        [[1, 1], [None]],
    ),
    ({"items": {"enum": [1, 2, 3]}, "uniqueItems": True, "type": "array"}, [[], [3, 1, 2]], [[1, 1], [4]]),
    ({"type": "array", "contains": True, "maxContains": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
    ({"anyOf": [{"type": "integer"}, {"minLength": 2}]}, [1, "ab", None], ["a"]),
    ({"allOf": [{"minimum": 2}, {"maximum": 4}, {"type": "integer"}]}, [2, 4], [1, 5, "x", 2.5]),
    (
        {
            "allOf": [
                {"properties": {"a": {"minimum": 2}}},
                {"properties": {"a": {"type": "integer"}}, "type": "object"},
            ]
        },
        [{"a": 2}, {}],
        [{"a": 1}, {"a": 2.5}],
    ),
    (
        {"oneOf": [{"properties": {"k": {"const": "a"}}, "required": ["k"]}, {"properties": {"k": {"const": "b"}}}]}
        | {"type": "object", "required": ["k"]},
        [{"k": "a"}, {"k": "b", "x": 1}],
        [{"k": "c"}, {}],
    ),
    ({"oneOf": [{"type": "integer", "maximum": 3}, {"type": "number", "minimum": 5}]}, [3, 5, 5.5], [4, 2.5]),
    ({"oneOf": [{"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}]}, ["a", "bc"], ["c", ""]),
    ({"not": {"type": ["string", "object"]}}, [1, None, []], ["", {}]),
    ({"type": "string", "not": {"enum": ["a", "ab"]}}, ["", "b", "abc"], ["a", "ab"]),
    ({"not": {"required": ["a"]}}, [{}, {"b": 1}], [1, None, {"a": 1}]),
    (
        {"type": "object", "properties": {"k": {"enum": ["a", "b"]}, "v": {"type": "integer"}}, "required": ["k"]}
        | {"if": {"properties": {"k": {"const": "a"}}}, "then": {"required": ["v"]}},
        [{"k": "a", "v": 1}, {"k": "b"}],
        [{"k": "a"}],
    ),
    (TREE, [{"value": 1}, {"value": 1, "kids": [{"value": 2, "kids": []}]}], [{"kids": []}, {"value": 1, "kids": [1]}]),
    ({"type": "string", "maxLength": 2}, ["", "é🙂", '"\\', "\n\t"], ["abc"]),
    ({"type": "string", "pattern": '^[a"\\\\\n]+$'}, ['a"\\\n'], ["b", ""]),
    ({"type": "string", "pattern": "b"}, ["b", "abc", "\u0001b"], ["a", ""]),
    ({"type": "string", "pattern": "^a", "maxLength": 3, "minLength": 2}, ["ab", "abc"], ["a", "abcd", "ba"]),
    ({"type": "string", "format": "date"}, ["2024-02-29", "1999-12-31"], ["2023-02-29", "2024-13-01", "2024-1-1"]),
    ({"type": "string", "format": "ipv4", "pattern": "^1"}, ["127.0.0.1"], ["8.8.8.8", "1.2.3"]),
    ({"type": "integer", "format": "int32"}, [2**31 - 1, -(2**31)], [2**31, -(2**31) - 1]),
    ({"type": "number", "multipleOf": 0.01}, [19.99, 5, 0.1], [0.001, 1.005]),
    ({"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 30}, [14, 21, 28], [7, 15, 35]),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 1.5}, [0.001, 1, 1.5], [0, 1.51, -1, 2]),
    (
        {"properties": {"a": {"$ref": "#/properties/b"}, "b": {"type": "null"}}, "type": "object"},
        [{"a": None}],
        [{"a": 1}],
    ),
    ({"$anchor": "x", "properties": {"a": {"$ref": "#x"}}, "type": "object"}, [{"a": {"a": {}}}, {}], [{"a": 1}]),
    ({"$id": "http://e.x/s", "$defs": {"a": {"$id": "t", "type": "null"}}, "$ref": "t"}, [None], [1]),
    ({"type": "object", "required": ['q"\\\n']}, [{'q"\\\n': 1}], [{"q": 1}]),
]


@pytest.fixture(scope="module")
def speaker(compiler: GrammarCompiler, pieces: dict[int, bytes]) -> Speaker:
    return Speaker(compiler, pieces)


@pytest.mark.parametrize(("schema", "valid", "invalid"), CASES, ids=[json.dumps(case[0])[:60] for case in CASES])
def test_exactly_the_instances_can_be_written(
    speaker: Speaker, schema: object, valid: list[object], invalid: list[object]
) -> None:
    grammar = speaker.grammar(schema)
    for value in valid:
        assert speaker.admits(grammar, value), value
        assert validate(json.dumps(value), schema) == []
    for value in invalid:
        assert not speaker.admits(grammar, value), value


@pytest.mark.parametrize(
    ("schema", "keyword", "pointer"),
    [
        ({"properties": {"a": {"minLenght": 2}}}, "minLenght", "#/properties/a"),
        ({"allOf": [{"type": "text"}]}, "type", "#/allOf/0"),
        ({"oneOf": [{"minimum": 2}, {"maximum": 4}]}, "oneOf", "#"),
        ({"not": {"uniqueItems": True}}, "not", "#"),
        ({"$ref": "http://json-schema.org/draft-07/schema#"}, "$ref", "#"),
        ({"$ref": "#/nowhere"}, "$ref", "#"),
        ({"$ref": "#"}, "$ref", "#"),
        ({"anyOf": [{"type": "null"}, {"$ref": "#"}]}, "$ref", "#"),
        ({"$dynamicRef": "#a"}, "$dynamicRef", "#"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "$schema", "#"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": [True]}, "prefixItems", "#"),
        ({"type": "string", "format": "regex"}, "format", "#"),
        ({"type": "string", "format": "hostname"}, "format", "#"),
        ({"type": "string", "format": "time", "pattern": "^1"}, "pattern", "#"),
        ({"items": [{"type": "integer"}]}, "items", "#"),
        ({"additionalItems": False}, "additionalItems", "#"),
        ({"anyOf": [{"type": "string", "maxLength": 1900 + n} for n in range(30)]}, "$schema", "#"),
        ({"type": "string", "pattern": "(?=a)"}, "pattern", "#"),
        ({"type": "string", "maxLength": 2001}, "maxLength", "#"),
        ({"type": "array", "maxItems": 2001}, "maxItems", "#"),
        ({"type": "array", "contains": {"const": 1}}, "contains", "#"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems", "#"),
        ({"type": "object", "minProperties": 2}, "minProperties", "#"),
        ({"type": "number", "multipleOf": 0}, "multipleOf", "#"),
        ({"type": "integer", "multipleOf": 1234567}, "multipleOf", "#"),
        ({"unevaluatedProperties": False, "allOf": [{"properties": {"a": True}}]}, "unevaluatedProperties", "#"),
        ({"!notIn": ["a"]}, "!notIn", "#"),
        (False, "false", "#"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "type, properties, required", "#"),
        (
            {"properties": {"a": {"$ref": "#"}}, "required": ["a"], "type": ["object"]},
            "properties, required, type",
            "#",
        ),
        ({"not": {}}, "not", "#"),
        ([1], "#", "#"),
        ({"const": "\ud800"}, "$schema", "#"),
        ({"minimum": float("nan")}, "$schema", "#"),
    ],
)
def test_what_can_not_be_enforced_is_refused_by_name_and_place(schema: object, keyword: str, pointer: str) -> None:
    with pytest.raises(SchemaUnsupported) as refusal:
        to_gbnf(schema)
    assert (refusal.value.keyword, refusal.value.pointer) == (keyword, pointer)
    assert keyword in str(refusal.value)


def test_annotations_and_extensions_change_nothing() -> None:
    plain = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    told = {**plain, "title": "T", "description": "D", "examples": [1], "default": {}, "x-order": 3, "$comment": "c"}
    assert to_gbnf(told) == to_gbnf(plain)


def test_a_keyword_of_another_type_is_no_reason_to_refuse() -> None:
    assert to_gbnf({"type": "string", "contains": {"const": 1}, "multipleOf": 1234567}) == to_gbnf({"type": "string"})


def test_no_keyword_is_both_enforced_and_ignored() -> None:
    assert not ANNOTATIONS & SUPPORTED


def test_draft_7_ignores_what_stands_beside_a_reference(speaker: Speaker) -> None:
    schema = {
        "definitions": {"s": {"type": "string"}},
        "properties": {"a": {"$ref": "#/definitions/s", "maxLength": 1}},
    }
    assert speaker.admits(speaker.grammar(schema, Draft.DRAFT_7), {"a": "long"})
    assert not speaker.admits(speaker.grammar(schema, Draft.DRAFT_2020_12), {"a": "long"})


def test_an_excluded_name_can_not_be_spelled_by_escapes(speaker: Speaker) -> None:
    grammar = speaker.grammar({"type": "object", "properties": {"a": {"type": "integer"}}})
    assert speaker.reads(grammar, '{"a": 1, "b": "x"}')
    assert not speaker.reads(grammar, '{"\\u0061": "x"}')


def test_there_is_one_white_space(speaker: Speaker) -> None:
    grammar = speaker.grammar({"type": "object", "properties": {"a": {"type": "array"}}})
    assert speaker.reads(grammar, '{"a": [1, 2]}')
    for text in ('{"a":[1, 2]}', '{"a": [1,2]}', '{ "a": [1, 2]}', '{"a": [1, 2]} ', '{"a":  [1, 2]}'):
        assert not speaker.reads(grammar, text)


def test_names_are_forced_and_the_value_ends_by_itself(compiler: GrammarCompiler, pieces: dict[int, bytes]) -> None:
    schema = {**CLOSED, "properties": {"city": {"const": "Rome"}}, "required": ["city"]}
    matcher = compiler.compile(to_gbnf(schema)).matcher()
    text = b'{"city": "Rome"}'
    for place in range(len(text)):
        assert [p for t, p in pieces.items() if len(p) == 1 and matcher.allows(t)] == [text[place : place + 1]]
        assert feed(matcher, spell(pieces, text[place : place + 1]))
    assert matcher.must_stop
    matcher.close()


def test_the_grammar_grows_with_the_number_of_optional_properties_and_not_with_their_subsets() -> None:
    sizes = [
        len(to_gbnf({**CLOSED, "properties": {f"p{n:02}": {"type": "integer"} for n in range(count)}}))
        for count in (10, 20, 40)
    ]
    assert sizes[2] - sizes[1] < 2.2 * (sizes[1] - sizes[0])
    assert sizes[2] < 10_000


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"anyOf": [{"minimum": n}, {"maxLength": n}]} for n in range(1, 40)]},
        {"type": "object", "dependentRequired": {f"a{n}": [f"b{n}"] for n in range(40)}},
        {"type": "object", "patternProperties": {f"a{n}": True for n in range(12)}},
        {"type": "string", "pattern": "(a|b)*a(a|b){60}$"},
        {"type": "string", "pattern": "(((a{2000}){2000}){2000})"},
        {"anyOf": [{"type": "string", "pattern": f"(a|b)*{n}(a|b){{9}}$"} for n in range(60)]},
        {"$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(900)} | {"d900": True}, "$ref": "#/$defs/d0"},
        {"oneOf": [{"type": "object", "properties": {"k": {"pattern": f"^{n}a*"}}} for n in range(300)]},
        {"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(500)}, "maxProperties": 499},
        {"type": "array", "prefixItems": [{"type": "array", "prefixItems": [{}] * 90}] * 2, "maxItems": 100_000},
        {"enum": ["x" * 65_536]},
        {"enum": [f"{n * 7919:020}" for n in range(2_500)]},
        {"oneOf": [{"type": "string", "pattern": f"^{n}x.{{0,50}}$"} for n in range(100)]},
        {"oneOf": [{"type": "object", "properties": {"k": {"const": n}}, "required": ["k"]} for n in range(150)]},
        {"anyOf": [{"type": "number", "multipleOf": 999 - n, "minimum": -n} for n in range(60)]},
    ],
)
def test_a_hostile_schema_is_refused_or_converted_soon(schema: object) -> None:
    started = time.process_time()
    with suppress(SchemaUnsupported):
        to_gbnf(schema)
    assert time.process_time() - started < 1.5, "a fraction of this where nothing else runs"


def test_a_deep_document_is_refused() -> None:
    schema: dict[str, object] = {}
    for _ in range(100):
        schema = {"items": schema}
    with pytest.raises(SchemaUnsupported, match="deeper than 64"):
        to_gbnf(schema)


def test_llama_cpps_own_cases_hold_in_our_white_space(speaker: Speaker) -> None:
    cases = json.loads(shared("gbnf/grammar-integration-cases.json").read_text())["cases"]
    cases = [case for case in cases if "schema" in case["kind"]]
    assert len(cases) == 33
    num_rejected, refused = 0, []
    for case in cases:
        schema = json.loads(case["text"])
        draft = Draft.DRAFT_7 if isinstance(schema.get("items"), list) else None  # a tuple as draft 7 has it
        try:
            grammar = speaker.grammar(schema, draft)
        except SchemaUnsupported as refusal:
            refused.append(refusal.keyword)
            continue
        for text in case["pass"]:
            assert speaker.reads(grammar, json.dumps(json.loads(text), ensure_ascii=False)), (case["desc"], text)
        # By its conventions a schema without type is of the type that its keywords speak of, no property comes beyond
        # the listed ones, and no integer has more than 16 digits.
        for text in (text for text in case["fail"] if validate(text, schema, draft)):
            num_rejected += 1
            assert not speaker.reads(grammar, text), (case["desc"], text)
    assert (refused, num_rejected) == (["uniqueItems"], 105)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"value": 1, "kids": [', "incomplete"),
        ('{"value": 1, "ki', "incomplete"),
        ("", "incomplete"),
        ('{"value": 1}}', "no JSON"),
        ('{"value": NaN}', "NaN is no number"),
        ('{"value": 1, "kids": [{}]}', "/kids/0: 'value' is a required property"),
        ("[" * 100_000, "too deeply"),
    ],
)
def test_validation_says_what_is_missing(text: str, problem: str) -> None:
    (said,) = validate(text, TREE)
    assert problem in said


def test_validation_tells_at_most_ten_problems() -> None:
    assert len(validate(json.dumps(["x"] * 50), {"items": {"type": "null"}})) == 10


def test_validation_follows_decimals_our_patterns_and_formats() -> None:
    assert validate("19.99", {"multipleOf": 0.01}) == []
    assert "multiple" in validate("19.995", {"multipleOf": 0.01})[0]
    assert validate('"x\\n"', {"pattern": "^x$"}) != [], "Python's $ also matches before a last line break"
    assert "date" in validate('"2023-02-29"', {"format": "date"})[0]
    assert validate('"15:59:60-08:00"', {"format": "time"}) == []
    assert "/bb" in validate('{"bb": 1, "c": 1}', {"patternProperties": {"b$": {"type": "null"}}})[0]
    assert len(validate('{"bb": 1, "c": 1}', {"patternProperties": {"b$": True}, "additionalProperties": False})) == 1


def test_validation_of_a_hostile_pattern_is_soon_done() -> None:
    started = time.process_time()
    assert validate(json.dumps("a" * 2_000 + "!"), {"pattern": "^(a+)+$"}) != []
    assert time.process_time() - started < 1


def test_validation_fetches_nothing() -> None:
    with pytest.raises(SchemaUnsupported, match="not inside this document"):
        validate("1", {"$ref": "http://127.0.0.1:9/schema"})


@pytest.mark.parametrize(
    "name", ["root", "value", "char", "escape", "name-rest", "string", "a-1", "LEAP", "leap-f", "$"]
)
def test_a_propertys_name_never_takes_the_place_of_another_rule(speaker: Speaker, name: str) -> None:
    inner = {**CLOSED, "properties": {name: {"enum": [1]}, "a": {"type": "string", "maxLength": 3}}}
    properties = {name: {"type": "integer"}, "a": inner, "s": {"type": "string"}, "t": {"format": "time"}}
    grammar = speaker.grammar({"type": "object", "properties": properties, "required": [name]})
    assert speaker.reads(grammar, f'{{"{name}": 7, "a": {{"{name}": 1, "a": "x"}}, "s": "\\u00e4", "other": ""}}')
    assert not speaker.reads(grammar, f'{{"{name}": 7, "a": {{"{name}": 2}}}}')
    assert not speaker.reads(grammar, f'{{"{name}": 7, "s": "1 23"}}'.replace('"1 23"', "123"))
    assert speaker.reads(grammar, f'{{"{name}": 7, "t": "15:59:60-08:00"}}')


def test_a_format_is_enforced_unless_it_is_taken_for_an_annotation(speaker: Speaker) -> None:
    schema = {"type": "string", "format": "date"}
    assert to_gbnf(schema, asserts_formats=False) == to_gbnf({"type": "string"})
    assert not speaker.admits(speaker.grammar(schema), "soon")


@pytest.mark.parametrize(("kind", "day"), [("time", ""), ("date-time", "2020-02-29T")])
@pytest.mark.parametrize("most", [None, 3])
def test_a_leap_second_ends_a_day_in_utc(speaker: Speaker, kind: str, day: str, most: int | None) -> None:
    random = Random(3)
    longest = len(f"{day}00:00:60.+00:00") + (most or 9)
    grammar = speaker.grammar({"type": "string", "format": kind} | ({"maxLength": longest} if most else {}))
    for _ in range(300):
        shift, sign = random.randrange(24 * 60), random.choice((1, -1))
        minute = random.choice(((23 * 60 + 59 + sign * shift) % (24 * 60), random.randrange(24 * 60)))
        places = random.choice(("", ".5", ".123", ".1234"))
        offset = f"{'+' if sign > 0 else '-'}{shift // 60:02}:{shift % 60:02}"
        text = f"{day}{minute // 60:02}:{minute % 60:02}:60{places}{offset}"
        is_last = (minute - sign * shift) % (24 * 60) == 23 * 60 + 59
        assert speaker.reads(grammar, f'"{text}"') == (is_last and len(text) <= longest), text
        assert (validate(f'"{text}"', {"format": kind}) == []) == is_last
