"""Messages that name the fault, the value and the limit."""

import pytest

from adapters_store.errors import (
    BaseModelInvalid,
    ExpertNotFound,
    GenerationConflict,
    ManifestInvalid,
    NameTaken,
    PackageInvalid,
    StoreError,
    StoreFull,
)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ExpertNotFound("a", ["c", "b"]), "there is no expert 'a'; known experts: b, c"),
        (ExpertNotFound("a", []), "there is no expert 'a'; known experts: none"),
        (PackageInvalid("a", "it is empty"), "expert 'a' cannot be used: it is empty"),
        (GenerationConflict("a", None, "f" * 64), "expert 'a' has the generation ffffffffffff, not none as expected"),
        (NameTaken("a", "an expert"), "the name 'a' belongs to an expert"),
        (ManifestInvalid("$.name", "is missing"), "manifest.json: $.name: is missing"),
        (BaseModelInvalid("nano", "it is empty"), "no base model in 'nano': it is empty"),
        (StoreFull("a", 9, 5, 10), "expert 'a' needs 9 bytes of host memory, but 5 of 10 are leased or pinned"),
    ],
)
def test_a_message_says_what_is_wrong(error: StoreError, message: str) -> None:
    assert str(error) == message


def test_an_unknown_expert_carries_the_known_ones_in_order() -> None:
    assert ExpertNotFound("a", ["c", "b"]).known == ("b", "c")
