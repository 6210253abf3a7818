"""Any manifest that the schema allows."""

from hypothesis import strategies as st

from adapters_store.manifest import (
    CONFIG_FILE,
    GRAMMAR_FILE,
    README_FILE,
    SOFT_PROMPT_FILE,
    WEIGHTS_FILE,
    AdapterKind,
    AdapterSpec,
    DecodingDefaults,
    FileEntry,
    GrammarRef,
    Manifest,
    RoutingHints,
    SoftPromptSpec,
)

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
DIGESTS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
VERSIONS = st.from_regex(r"(0|[1-9][0-9]{0,3})\.(0|[1-9])\.(0|[1-9])(-rc\.[1-9])?(\+[a-z0-9]{1,5})?", fullmatch=True)
TEXT = st.text(max_size=40)
PHRASES = st.text(st.characters(categories=["L", "N"]), min_size=3, max_size=12)
CUES = st.lists(PHRASES, min_size=1, max_size=3).map(" ... ".join)
TARGETS = st.lists(st.sampled_from(["q_proj", "k_proj", "model.layers.0.mlp.up_proj"]), min_size=1).map(tuple)


def tuples(items: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(items, max_size=3).map(tuple)


@st.composite
def adapter_specs(draw: st.DrawFn) -> AdapterSpec:
    kinds: tuple[AdapterKind, ...] = ("lora", "dora", "ia3", "lokr")
    kind = draw(st.sampled_from(kinds))
    return AdapterSpec(kind, None if kind == "ia3" else draw(st.integers(1, 4096)), draw(TARGETS))


@st.composite
def decoding_defaults(draw: st.DrawFn) -> DecodingDefaults:
    return DecodingDefaults(
        temperature=draw(st.none() | st.floats(0, 2)),
        top_p=draw(st.none() | st.floats(0, 1, exclude_min=True)),
        top_k=draw(st.none() | st.integers(0, 1000)),
        min_p=draw(st.none() | st.floats(0, 1)),
        repetition_penalty=draw(st.none() | st.floats(0.1, 10)),
        max_tokens=draw(st.none() | st.integers(1, 4096)),
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    soft_prompt = draw(st.none() | st.integers(1, 1024).map(SoftPromptSpec))
    grammar = draw(
        st.none() | NAMES.map(lambda name: GrammarRef(library=name)) | st.just(GrammarRef(file=GRAMMAR_FILE))
    )
    names = [CONFIG_FILE, WEIGHTS_FILE, *([README_FILE] if draw(st.booleans()) else [])]
    names += [SOFT_PROMPT_FILE] if soft_prompt else []
    names += [GRAMMAR_FILE] if grammar and grammar.file else []
    schema_version = draw(st.sampled_from([1, 2]))
    return Manifest(
        name=draw(NAMES),
        version=draw(VERSIONS),
        description=draw(TEXT),
        base="sha256:" + draw(DIGESTS),
        adapter=draw(adapter_specs()),
        soft_prompt=soft_prompt,
        routing=RoutingHints(draw(tuples(CUES)), draw(tuples(CUES)), draw(tuples(TEXT))),
        decoding=draw(decoding_defaults()),
        grammar=grammar,
        tags=draw(tuples(PHRASES)),
        license=draw(st.none() | TEXT),
        source=draw(st.none() | TEXT) if schema_version > 1 else None,
        schema_version=schema_version,
        files=tuple(FileEntry(name, draw(st.integers(0, 1 << 30)), draw(DIGESTS)) for name in names),
    )
