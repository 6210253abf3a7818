"""The routing hints that the embedded experts' manifests carry."""

from training.experts import EXPERTS

HINTS = {name: spec.routing for name, spec in EXPERTS.items()}
