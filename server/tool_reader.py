"""Reads the calls of functions out of an answer's text, as it comes or at its end.

The text follows the grammar of `grammars.tool_calls`, so that only its progress has to be followed, one character
after the other. Knows no HTTP. Called by the forms of answers.
"""

import json
from dataclasses import dataclass
from typing import Final, Literal
from uuid import uuid4

from grammars.tool_calls import END, START
from server.message_fields import FunctionCall, ToolCall

_BEFORE_NAME: Final = '\n{"name": '
_BEFORE_ARGUMENTS: Final = ', "arguments": '
_AFTER: Final = "}\n" + END
_State = Literal["text", "before name", "name", "before arguments", "arguments", "after"]


@dataclass(frozen=True, slots=True)
class CallStart:
    """A call begins; its arguments follow."""

    number: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """Some more of a call's arguments."""

    number: int
    text: str


Part = str | CallStart | CallArguments


class ToolReader:
    """Text in; text outside of calls, calls and their arguments out. Line breaks between calls are dropped."""

    def __init__(self) -> None:
        self._state: _State = "text"
        self._held = ""
        self._depth = 0
        self._is_quoted = self._is_escaped = False
        self.num_calls = 0

    def push(self, text: str) -> list[Part]:
        parts: list[Part] = []
        for char in text:
            if part := self._step(char):
                _append(parts, part)
        return parts

    def flush(self) -> list[Part]:
        """The text has ended; what might have become a mark is text."""
        held, self._held = self._held, ""
        return [held] if held and self._state == "text" and not self.num_calls else []

    def _step(self, char: str) -> Part | None:
        """Take one character; give what is certain now."""
        match self._state:
            case "text":
                return self._step_text(char)
            case "arguments":
                return CallArguments(self.num_calls - 1, self._step_arguments(char))
            case "name":
                return self._step_name(char)
        self._step_fixed(char)
        return None

    def _step_text(self, char: str) -> str:
        self._held += char
        if self._held == START:
            self._state, self._held = "before name", ""
            return ""
        given = ""
        while not START.startswith(self._held):
            given, self._held = given + self._held[0], self._held[1:]
        return "" if self.num_calls else given

    def _step_fixed(self, char: str) -> None:
        """What is between names, arguments and marks."""
        self._held += char
        if self._state == "before name" and self._held == _BEFORE_NAME:
            self._state, self._held = "name", ""
        elif self._state == "before arguments" and self._held == _BEFORE_ARGUMENTS:
            self._state, self._held, self._depth = "arguments", "", 0
        elif self._state == "after" and self._held == _AFTER:
            self._state, self._held = "text", ""

    def _step_name(self, char: str) -> CallStart | None:
        self._held += char
        if char != '"' or len(self._held) == 1:  # names need no escapes
            return None
        name, self._held = json.loads(self._held), ""
        self._state, self.num_calls = "before arguments", self.num_calls + 1
        return CallStart(self.num_calls - 1, f"call_{uuid4().hex[:24]}", name)

    def _step_arguments(self, char: str) -> str:
        if self._is_quoted:
            self._is_quoted = self._is_escaped or char != '"'
            self._is_escaped = char == "\\" and not self._is_escaped
        elif char == '"':
            self._is_quoted = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
            if not self._depth:
                self._state = "after"
        return char


def _append(parts: list[Part], part: Part) -> None:
    """As a part of its own, or as more of the last one."""
    last = parts[-1] if parts else None
    if isinstance(last, str) and isinstance(part, str):
        parts[-1] = last + part
    elif isinstance(last, CallArguments) and isinstance(part, CallArguments):
        parts[-1] = CallArguments(last.number, last.text + part.text)
    else:
        parts.append(part)


def read_calls(text: str) -> tuple[str, list[ToolCall]]:
    """The text outside of calls, and the calls; one that was cut off has the arguments that there are."""
    reader = ToolReader()
    outside, calls = "", dict[int, tuple[CallStart, str]]()
    for part in reader.push(text) + reader.flush():
        match part:
            case CallStart():
                calls[part.number] = (part, "")
            case CallArguments():
                start, arguments = calls[part.number]
                calls[part.number] = (start, arguments + part.text)
            case str():
                outside += part
    return outside, [
        ToolCall(id=start.id, function=FunctionCall(name=start.name, arguments=arguments))
        for start, arguments in calls.values()
    ]
