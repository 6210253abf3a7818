"""Messages and tools to the turns that a base reads: (role, content), the markup kept apart from what people wrote.

Tools are told in the form of Qwen3's own template, whatever the base's template knows of tools: a list of signatures
in the system turn, a call as <tool_call> around JSON, a result as <tool_response> in a user turn. The marks become
tokens of their own where the base has them. Called by `generation.py`.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from engine.tokenizer import Content, Markup
from server.message_fields import Message, Tool, ToolCall

CALL_START: Final = "<tool_call>"
CALL_END: Final = "</tool_call>"
_RESULT_START: Final = "<tool_response>"
_RESULT_END: Final = "</tool_response>"

Turn = tuple[str, Content]


def turns(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[Turn]:
    """The conversation; with tools, their list closes the first system turn, which is made where there is none."""
    told: list[Turn] = []
    results: list[str | Markup] = []
    for message in messages:
        if message.role == "tool":
            results += [*([] if not results else ["\n"]), *_marked(_RESULT_START, message.text, _RESULT_END)]
            continue
        if results:
            told.append(("user", tuple(results)))
            results = []
        told.append(_turn(message))
    if results:
        told.append(("user", tuple(results)))
    return _with_tools(told, tools) if tools else told


def call_text(name: str, arguments: str) -> str:
    """What stands between the marks of a call, line breaks aside."""
    return f'{{"name": {json.dumps(name)}, "arguments": {arguments}}}'


def _turn(message: Message) -> Turn:
    if message.role == "developer":
        return "system", message.text
    if message.role == "assistant" and message.tool_calls:
        return "assistant", tuple(_with_calls(message.text, message.tool_calls))
    return message.role, message.text


def _with_calls(text: str, calls: Sequence[ToolCall]) -> Iterable[str | Markup]:
    is_first = not text
    if text:
        yield text
    for call in calls:
        if not is_first:
            yield "\n"
        is_first = False
        yield from _marked(CALL_START, call_text(call.function.name, call.function.arguments), CALL_END)


def _marked(start: str, text: str, end: str) -> list[str | Markup]:
    return [Markup(start), f"\n{text}\n", Markup(end)]


def _with_tools(told: list[Turn], tools: Sequence[Tool]) -> list[Turn]:
    signatures = "\n".join(
        json.dumps(tool.model_dump(mode="json", exclude_none=True), ensure_ascii=False) for tool in tools
    )
    listed: list[str | Markup] = [
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n",
        signatures,
        "\n</tools>\n\nFor each function call, return a json object with function name and arguments within ",
        *(Markup(CALL_START), Markup(CALL_END)),
        " XML tags:\n",
        Markup(CALL_START),
        '\n{"name": <function-name>, "arguments": <args-json-object>}\n',
        Markup(CALL_END),
    ]
    if told and told[0][0] == "system":
        (_, first), *rest = told
        opening = (first,) if isinstance(first, str) else first
        return [("system", (*opening, "\n\n", *listed)), *rest]
    return [("system", tuple(listed)), *told]
