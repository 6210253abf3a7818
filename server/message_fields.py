"""Messages and tools as OpenAI's wire has them. Fields that this server does not know are passed over.

Knows nothing of how a message becomes tokens; `conversation.py` does.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

MAX_TOOLS = 64
_TEXT_PARTS = ("text", "input_text", "output_text")
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Open(BaseModel):
    """Strict about types, not about names: clients send along what they were given by other servers."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class Part(Open):
    """Of a message's content. Only text is served."""

    type: str = Field(max_length=64)
    text: str | None = None

    @model_validator(mode="after")
    def _only_text(self) -> Self:
        if self.type not in _TEXT_PARTS:
            raise PydanticCustomError("part_unsupported", "only parts of type 'text' are supported")
        if self.text is None:
            raise PydanticCustomError("part_without_text", "a part of type 'text' needs its text")
        return self


class FunctionCall(Open):
    name: FunctionName
    arguments: str


class ToolCall(Open):
    """A call that the assistant made."""

    id: str = Field(max_length=256)
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Open):
    """One turn. Content may be a list of text parts."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=64)
    tool_call_id: str | None = Field(default=None, max_length=256)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise PydanticCustomError("content_missing", f"a message of role {self.role!r} needs content")
        return self

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""


class Function(Open):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, object] | None = Field(default=None, description="A JSON schema; none is no arguments.")
    strict: bool | None = Field(default=None, description="Arguments are held to their schema in any case.")


class Tool(Open):
    type: Literal["function"]
    function: Function


class NamedFunction(Open):
    name: FunctionName


class NamedTool(Open):
    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class ToolFields(Open):
    """To be inherited: tools, and whether they must be used."""

    tools: list[Tool] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = Field(default=None, description="'auto' where tools are sent.")
    parallel_tool_calls: bool | None = Field(default=None, description="False allows one call at most.")

    @field_validator("tools")
    @classmethod
    def _distinct(cls, value: list[Tool] | None) -> list[Tool] | None:
        names = [tool.function.name for tool in value or ()]
        if len(set(names)) < len(names):
            raise PydanticCustomError("repeated_tool", "two tools have the same name")
        return value

    @model_validator(mode="after")
    def _choice_is_there(self) -> Self:
        names = [tool.function.name for tool in self.tools or ()]
        if self.tool_choice == "required" and not names:
            raise PydanticCustomError("tools_missing", "tool_choice is 'required', and there are no tools")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise PydanticCustomError("tool_unknown", "tool_choice names a function that is not among the tools")
        return self
