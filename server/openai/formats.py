"""The ways in which clients ask for a structured answer, all of them brought to one grammar field.

OpenAI's `response_format`; vLLM's `structured_outputs` and, before it, `guided_*`; llama.cpp's `grammar` and
`json_schema`; our own `grammar`. A request uses one of them.
"""

import json
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from server.grammar_fields import ChoiceGrammar, GbnfGrammar, GrammarField, RegexGrammar, SchemaGrammar
from server.message_fields import Open

_JSON_OBJECT = "json_object"


def _parsed(value: object) -> object:
    """A schema may be sent as text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            raise PydanticCustomError("schema_no_json", "the schema is not valid JSON") from None
    return value


def _named_or_gbnf(value: object) -> object:
    """llama.cpp and vLLM send GBNF as text, where ours is a name or an object."""
    return {"gbnf": value} if isinstance(value, str) and "::=" in value else value


def _schema(schema: object) -> SchemaGrammar:
    return SchemaGrammar.model_validate({"json_schema": schema})


Schema = Annotated[dict[str, object], BeforeValidator(_parsed)]


class NamedSchema(Open):
    model_config = ConfigDict(protected_namespaces=())

    name: str = Field(max_length=64)
    description: str | None = None
    schema_: dict[str, object] = Field(alias="schema")
    strict: bool | None = Field(default=None, description="The answer is held to the schema in any case.")


class ResponseFormat(Open):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise PydanticCustomError("schema_missing", "a format of type 'json_schema' needs json_schema")
        return self

    @property
    def grammar(self) -> GrammarField | None:
        """None is free text, for whoever asks for it in words."""
        if self.json_schema is not None and self.type == "json_schema":
            return _schema(self.json_schema.schema_)
        return _JSON_OBJECT if self.type == "json_object" else None


class StructuredOutputs(Open):
    """vLLM's. One of these."""

    model_config = ConfigDict(extra="forbid")

    json_: Schema | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: Literal[False] | None = None
    whitespace_pattern: None = None
    structural_tag: None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.grammars()) != 1:
            raise PydanticCustomError(
                "structured_outputs", "send exactly one of json, regex, choice, grammar, json_object"
            )
        return self

    def grammars(self) -> list[GrammarField]:
        return _grammars(self.json_, self.regex, self.choice, self.grammar) + (
            [_JSON_OBJECT] if self.json_object else []
        )


def _grammars(schema: object, regex: str | None, choice: list[str] | None, gbnf: str | None) -> list[GrammarField]:
    found: list[GrammarField] = []
    found += [] if schema is None else [_schema(schema)]
    found += [] if regex is None else [RegexGrammar(regex=regex)]
    found += [] if choice is None else [ChoiceGrammar(choice=choice)]
    found += [] if gbnf is None else [GbnfGrammar(gbnf=gbnf)]
    return found


class GrammarFields(Open):
    """To be inherited. What they come to is `grammar_wish`."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = Field(default=None, description="As vLLM has it.")
    guided_json: Schema | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    json_schema: Schema | None = Field(default=None, description="As llama.cpp's server has it.")
    grammar: Annotated[GrammarField, BeforeValidator(_named_or_gbnf)] | None = Field(
        default=None, description="GBNF, the name of a library grammar, or what /generate takes."
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        names = [name for name in GrammarFields.model_fields if getattr(self, name) is not None]
        if len(names) > 1:
            raise PydanticCustomError("several_grammars", f"send only one of {' and '.join(names)}")
        try:
            self.grammar_wish()
        except ValidationError as faults:
            first = faults.errors()[0]
            raise PydanticCustomError("grammar_form", f"{names[0]}: {first['msg']}") from None
        return self

    def grammar_wish(self) -> GrammarField | None:
        """What holds the answer: the expert's own where nothing is said."""
        if self.response_format is not None:
            return self.response_format.grammar
        if self.structured_outputs is not None:
            return self.structured_outputs.grammars()[0]
        schema = self.guided_json if self.guided_json is not None else self.json_schema
        found = _grammars(schema, self.guided_regex, self.guided_choice, self.guided_grammar)
        return found[0] if found else self.grammar or "auto"
