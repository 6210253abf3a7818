"""Manifests that say just enough to be routed to."""

from adapters_store.manifest import AdapterSpec, Manifest, RoutingHints


def manifest(name: str, cues: tuple[str, ...] = (), excludes: tuple[str, ...] = ()) -> Manifest:
    return Manifest(
        name=name,
        version="1.0.0",
        description="",
        base="sha256:" + "0" * 64,
        adapter=AdapterSpec("lora", 8, ("q_proj",)),
        routing=RoutingHints(cues, excludes),
    )
