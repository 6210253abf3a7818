"""A trained router: weights, thresholds and what they were fitted on.

Owns the files and their check: thresholds say something about one encoder only, so that another encoder refuses them.
Knows no text. `train` writes it, `pipeline` uses it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from router.encoder import EMBEDDED, Encoder, Vectors
from router.errors import ModelInvalid
from router.keywords import Measured, Measures
from router.signals import NAMES

FORMAT = 2
DEFAULT = EMBEDDED.parent
WEIGHTS_FILE, SETTINGS_FILE, BACKGROUND_FILE = "policy.safetensors", "router.json", "background.json"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What the learned stages must reach to answer."""

    embeddings: Mapping[str, float]
    """Confidence from which stage two answers, by expert and for `none`; above 1 where it never may."""
    policy: Mapping[str, float]
    """Confidence from which stage three chooses an expert; below, the base answers."""
    also: float
    """Independent score from which an expert joins the best one."""
    embeddings_temperature: float
    policy_temperature: float
    lexical_share: float
    """What the words count for beside the network, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Rows of `heads` and of `out` are the experts in order, then `none`."""

    heads: Vectors  # [experts + 1, 2 * width]
    heads_bias: Vectors
    hidden: Vectors  # [columns, 256]
    hidden_bias: Vectors
    out: Vectors  # [256, experts + 1]
    out_bias: Vectors
    lexical: Vectors  # [65536, experts + 1]
    lexical_bias: Vectors
    idf: Vectors  # [65536]
    background: Vectors  # [rows, 2 * width]: of prompts that a new expert must not take
    background_mean: Vectors
    background_inverse: Vectors  # [2 * width, 2 * width]: of the shrunken covariance


@dataclass(frozen=True, slots=True)
class RouterModel:
    names: tuple[str, ...]
    weights: Weights
    thresholds: Thresholds
    measured: Measures
    background: tuple[tuple[str, tuple[str, ...]], ...]
    """Texts with the experts that they need, the rows of `weights.background`."""
    encoder: str
    """Fingerprint of the encoder."""
    calibration: str
    """Hash of the rows that thresholds and temperatures were fitted on."""
    version: str = ""

    def check(self, encoder: Encoder) -> None:
        """Raises ModelInvalid where it was fitted on another encoder."""
        if encoder.fingerprint != self.encoder:
            raise ModelInvalid(
                f"the router was fitted on the encoder {self.encoder[:12]} and this one is {encoder.fingerprint[:12]}:"
                " run `hotseat router train`"
            )


def save_model(folder: Path, model: RouterModel) -> None:
    """The settings last: a directory without them is no router, and one is noticed by them."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.ascontiguousarray(array, np.float16) for name, array in _arrays(model.weights).items()}
    raw = save(tensors)
    background = json.dumps(model.background, ensure_ascii=False).encode()
    settings = {
        "format": FORMAT,
        "names": model.names,
        "signals": NAMES,
        "thresholds": asdict(model.thresholds),
        "measured": {
            name: {cue: [one.right, one.wrong] for cue, one in cues.items()} for name, cues in model.measured.items()
        },
        "encoder": model.encoder,
        "calibration": model.calibration,
        "files": {WEIGHTS_FILE: _sha256(raw), BACKGROUND_FILE: _sha256(background)},
    }
    (folder / WEIGHTS_FILE).write_bytes(raw)
    (folder / BACKGROUND_FILE).write_bytes(background)
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n")


def load_model(folder: Path) -> RouterModel:
    """Raises ModelInvalid for what is missing, damaged or of another version."""
    try:
        raw_settings = (folder / SETTINGS_FILE).read_bytes()
        raw, background = (folder / WEIGHTS_FILE).read_bytes(), (folder / BACKGROUND_FILE).read_bytes()
        settings = json.loads(raw_settings)
        if settings["format"] != FORMAT or tuple(settings["signals"]) != NAMES:
            raise ModelInvalid(f"{folder} is of another version of the router: run `hotseat router train`")
        if settings["files"] != {WEIGHTS_FILE: _sha256(raw), BACKGROUND_FILE: _sha256(background)}:
            raise ModelInvalid(f"{folder} is damaged, or half of a newer one: its files are not those that were saved")
        arrays = {name: array.astype(np.float32) for name, array in load(raw).items()}
        return RouterModel(
            names=tuple(settings["names"]),
            weights=Weights(**arrays),
            thresholds=Thresholds(**settings["thresholds"]),
            measured={
                name: {cue: Measured(*counts) for cue, counts in cues.items()}
                for name, cues in settings["measured"].items()
            },
            background=tuple((text, tuple(experts)) for text, experts in json.loads(background)),
            encoder=settings["encoder"],
            calibration=settings["calibration"],
            version=_sha256(raw_settings)[:12],
        )
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise ModelInvalid(f"{folder} holds no router: {fault}") from fault


def _arrays(weights: Weights) -> dict[str, Vectors]:
    return {name: getattr(weights, name) for name in Weights.__slots__}


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
