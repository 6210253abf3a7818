"""Which files make a base, and where they are: a directory of the operator's, or a pinned commit on the hub.

Knows no model. The name comes from the operator alone, never from a client.
"""

from pathlib import Path

from server.hub import Download, Need, resolve

CONFIG_FILES = ("config.json", "generation_config.json")
BASE_FILES = (
    *CONFIG_FILES,
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_NEED = Need(
    purpose="to load the base model from",
    options="--revision (or HOTSEAT_MODEL__REVISION)",
    way_out="Without the hub, copy the model's files to this machine and give their directory with --base.",
)


def resolve_base(base: Path, revision: str | None, files: tuple[str, ...], download: Download | None = None) -> Path:
    """The directory of the base: `base` itself where it is one, else `files` of that repository at `revision`.

    Raises SettingsInvalid for a name that is neither, a revision that is no commit, and a hub that does not give it.
    """
    return resolve(base, revision, files, _NEED, download)
