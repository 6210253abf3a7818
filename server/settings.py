"""What an operator may set, and the only place that reads the environment (prefix `HOTSEAT_`).

Knows no room: `services.py` turns these values into each room's own configuration. The command line's options
are passed in as keyword arguments and so win over the environment.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.sizes import parse_size

_ROOT = Path(__file__).resolve().parent.parent

Device = Literal["auto", "cpu", "cuda"]
Quantization = Literal["auto", "int8", "int4", "nf4", "bf16", "fp32"]
KVDtype = Literal["auto", "int8"]
AdapterStorage = Literal["plain", "int8", "int4"]
Size = Annotated[int, BeforeValidator(lambda size: parse_size(size) if isinstance(size, str) else size)]
LogLevel = Literal["debug", "info", "warning", "error"]


class ServerError(Exception):
    """Base of what this room raises on purpose."""


class SettingsInvalid(ServerError):
    """The operator's settings do not fit the machine or each other."""


class Settings(BaseSettings):
    """Every setting with its default; `HOTSEAT_PORT=9000` sets `port`."""

    model_config = SettingsConfigDict(env_prefix="HOTSEAT_", frozen=True, allow_inf_nan=False)

    host: str = Field(default="127.0.0.1", description="Address to listen on; loopback until you decide otherwise.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")

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
    drain_seconds: int = Field(
        default=30, ge=0, le=3600, description="How long a stopping server finishes its requests."
    )
    log_level: LogLevel = "info"


def settings_with(**options: object) -> Settings:
    """The environment's settings, and the command line's options where they are not None.

    Raises SettingsInvalid that names each faulty field and its variable, a line each.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings.model_validate({**Settings().model_dump(), **given})
    except ValidationError as error:
        faults = [(".".join(str(step) for step in fault["loc"]), fault["msg"]) for fault in error.errors()]
        raise SettingsInvalid(
            "\n".join(f"{name} (HOTSEAT_{name.upper()}): {message}" for name, message in faults)
        ) from error


def local_url(settings: Settings) -> str:
    """Where a client on this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
