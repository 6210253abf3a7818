"""What can go wrong before a route is chosen.

Owns the room's exceptions. The choice itself never fails: in doubt it is the base model.
"""


class RouterError(Exception):
    """Base of everything that this room raises on purpose."""


class RouteQueryInvalid(RouterError):
    def __init__(self, max_experts: int, limit: int) -> None:
        super().__init__(f"max_experts is {max_experts}, it must be from 1 to {limit}")


class CueInvalid(RouterError):
    def __init__(self, phrase: str) -> None:
        super().__init__(f"the cue {phrase!r} has no words where there should be some: before, between or after `...`")


class EncoderInvalid(RouterError):
    """What should be an encoder cannot be used as one."""


class ModelInvalid(RouterError):
    """A trained router that does not fit: damaged, of another version, or fitted on another encoder."""


class ParserInvalid(RouterError):
    """The parser that was asked for by name cannot be used."""
