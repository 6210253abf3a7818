"""What an operator may set, and the only place that reads the environment.

Knows no room: `services.py` turns these values into each room's own configuration. `sources.py` says how a setting is
written; the command line wins over the environment, that over the file, that over the defaults.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from server.sizes import parse_size
from server.sources import Given, SourceInvalid, gathered

_ROOT = Path(__file__).resolve().parent.parent

Device = Literal["auto", "cpu", "cuda"]
Quantization = Literal["auto", "int8", "int4", "nf4", "bf16", "fp32"]
KVDtype = Literal["auto", "int8"]
AdapterStorage = Literal["plain", "int8", "int4"]
Size = Annotated[int, BeforeValidator(lambda size: parse_size(size) if isinstance(size, str) else size)]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(
        lambda names: tuple(filter(None, names.replace(",", " ").split())) if isinstance(names, str) else names
    ),
]
"""In the environment, with commas between them."""
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]


class ServerError(Exception):
    """Base of what this room raises on purpose."""


class SettingsInvalid(ServerError):
    """The operator's settings do not fit the machine or each other."""


class Settings(BaseModel):
    """Every setting with its default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    host: str = Field(default="127.0.0.1", description="Address to listen on; loopback until you decide otherwise.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")
    insecure_bind: bool = Field(
        default=False, description="Listen where others can reach it although there are no API keys."
    )
    allowed_hosts: Names = Field(
        default=(), description="Names that a Host header may carry; loopback's own while listening there, else any."
    )
    cors_origins: Names = Field(default=(), description="Origins whose web pages may call; none by default.")
    keys_file: Path | None = Field(default=None, description="API keys (`hotseat keys add`); without it, no keys.")
    api_key: SecretStr | None = Field(default=None, description="What `hotseat generate` sends to a server with keys.")
    max_concurrent_per_key: int | None = Field(
        default=None, ge=1, description="Requests of one key at one time, where the key says nothing else."
    )

    base: Path = Field(
        default=_ROOT / "models" / "nano",
        description="Directory of the base model, or a repository of the hub such as Qwen/Qwen3-0.6B.",
    )
    revision: str | None = Field(default=None, description="The commit of a base from the hub, 40 hexadecimal digits.")
    experts: Path = Field(
        default=_ROOT / "adapters_store" / "experts",
        description="Directory that holds one directory per expert.",
    )
    cache_dir: Path = Field(
        default_factory=lambda: Path.home() / ".cache" / "hotseat",
        description="For files that can be made again from the base.",
    )

    router: Path = Field(default=_ROOT / "router" / "default", description="Directory of the trained router.")
    router_encoder: str = Field(
        default="embedded", description="embedded, a directory, all-MiniLM-L6-v2, or a name on the hub."
    )
    router_parser: str = Field(
        default="auto", description="A spaCy pipeline with a parser; auto takes an installed one, none is none."
    )
    tier_simple: float = Field(default=0.3, ge=0, le=1, description="Below this complexity a prompt is simple.")
    tier_complex: float = Field(default=0.7, ge=0, le=1, description="From this complexity on it is complex.")

    device: Device = Field(default="auto", description="auto takes CUDA where there is one.")
    quantization: Quantization = Field(
        default="auto", description="auto is nf4 on CUDA and int8 on the CPU; int4 is for the CPU too."
    )
    kv_dtype: KVDtype = Field(default="auto", description="auto is bf16; int8 holds twice the tokens in the KV cache.")
    memory: Size = Field(
        default=0,
        ge=0,
        description="Device memory for weights, slots, KV cache and a step, as 20GiB; 0 bounds the KV cache alone.",
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="CPU threads for the model; torch's own choice."
    )
    slots: int = Field(default=10, ge=1, le=256, description="Experts resident on the device at one time.")
    max_batch: int = Field(default=32, ge=1, le=1024, description="Requests decoded in one step.")
    max_context: int | None = Field(
        default=None, ge=16, description="Positions of one request; what the base was made for, within the KV cache."
    )
    max_queue: int = Field(default=128, ge=1, le=65536, description="Requests that may wait; the next one gets a 429.")

    deadline_seconds: float | None = Field(
        default=None, gt=0, description="How long a request may wait and run; a later one gets a 504."
    )

    host_memory_bytes: int = Field(
        default=2 << 30, ge=0, description="Experts kept in host memory, least used out first."
    )
    require_signature: bool = Field(default=False, description="Refuse experts that no trusted key has signed.")
    trusted_keys: Path | None = Field(default=None, description="A .pub file of a signer, or a directory of them.")
    admin_key: SecretStr | None = Field(
        default=None, min_length=16, description="What /admin asks for; without one there is no /admin."
    )

    adapter_storage: AdapterStorage = Field(
        default="plain",
        description="How lowered experts are kept in host memory and on disk; int8 and int4 take less and round them.",
    )
    lowered_cache: Size = Field(
        default=4 << 30, ge=0, description="Disk space under the cache directory for lowered experts; 0 keeps none."
    )
    max_body_bytes: int = Field(default=1 << 20, ge=1024, description="Longest request body; a longer one gets a 413.")
    max_header_bytes: int = Field(
        default=16 << 10, ge=1024, le=1 << 20, description="Longest head of a request; a longer one gets a 431."
    )
    client_seconds: float = Field(
        default=30,
        gt=0,
        description="How long a client may take to send a head, to send a body, and to take what is sent to it.",
    )
    max_connections: int = Field(default=1024, ge=1, description="Open connections; one more gets a bare 503.")
    drain_seconds: int = Field(
        default=30, ge=0, le=3600, description="How long a stopping server finishes its requests."
    )
    log_level: LogLevel = Field(default="info", description="How much is logged.")
    log_format: LogFormat = Field(default="text", description="text for people, json for one object per line.")
    otel: bool = Field(default=False, description="OpenTelemetry spans, sent as the OTEL_ variables say.")


SECTIONS: dict[str, tuple[str, ...]] = {
    "server": ("host", "port", "insecure_bind", "drain_seconds", "client_seconds", "max_connections"),
    "security": (
        "keys_file",
        "admin_key",
        "allowed_hosts",
        "cors_origins",
        "max_concurrent_per_key",
        "max_body_bytes",
        "max_header_bytes",
    ),
    "model": ("base", "revision", "device", "quantization", "kv_dtype", "memory", "threads", "cache_dir"),
    "engine": ("slots", "max_batch", "max_context", "max_queue", "deadline_seconds"),
    "store": (
        "experts",
        "host_memory_bytes",
        "adapter_storage",
        "lowered_cache",
        "require_signature",
        "trusted_keys",
    ),
    "router": ("router", "router_encoder", "router_parser", "tier_simple", "tier_complex"),
    "logs": ("log_level", "log_format", "otel"),
    "client": ("api_key",),
}
SECTION_OF = {name: section for section, names in SECTIONS.items() for name in names}


class Loaded(NamedTuple):
    settings: Settings
    origins: dict[str, str]
    """Setting -> the file, variable or option that gave it; those at their defaults are left out."""


def loaded(config: Path | None = None, **options: object) -> Loaded:
    """Of the file, the environment, and the options that are not None.

    Raises SettingsInvalid that names each faulty setting and where it was given, a line each.
    """
    try:
        given = gathered(SECTION_OF, config, os.environ, options)
    except SourceInvalid as error:
        raise SettingsInvalid(str(error)) from error
    try:
        settings = Settings.model_validate({name: one.value for name, one in given.items()})
    except ValidationError as error:
        raise SettingsInvalid(_faults(error, given)) from error
    return Loaded(settings, {name: one.origin for name, one in given.items()})


def settings_with(config: Path | None = None, **options: object) -> Settings:
    """`loaded`, for those whom the origins do not concern."""
    return loaded(config, **options).settings


def _faults(error: ValidationError, given: dict[str, Given]) -> str:
    lines = []
    for fault in error.errors():
        name = str(fault["loc"][0])
        lines.append(f"{SECTION_OF.get(name, '?')}.{name} ({given[name].origin}): {fault['msg']}")
    return "\n".join(lines)


def local_url(settings: Settings) -> str:
    """Where a client on this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
