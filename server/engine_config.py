"""The engine's configuration from the operator's settings: what `auto` means, and a refusal of what cannot be.

Imports no torch: `hotseat plan` answers without it.
"""

from pathlib import Path

from engine.config import CPU_ONLY, STEP_TOKENS, EngineConfig
from server.settings import Settings, SettingsInvalid


def engine_config(settings: Settings, num_tokens: int, has_cuda: bool) -> EngineConfig:
    """For this machine, and a tokenizer of `num_tokens` ids. Raises SettingsInvalid."""
    device = settings.device
    if device == "auto":
        device = "cuda" if has_cuda else "cpu"
    if device == "cuda" and not has_cuda:
        raise SettingsInvalid("device is cuda, and torch finds no CUDA device here")
    quantization = settings.quantization
    if quantization == "auto":
        quantization = "nf4" if device == "cuda" else "int8"
    return _config(settings, settings.base, device, quantization, num_tokens)


def planned_config(settings: Settings, base: Path) -> EngineConfig:
    """For a GPU that need not be here, or the CPU where the quantization runs on that alone. Raises SettingsInvalid."""
    quantization = "nf4" if settings.quantization == "auto" else settings.quantization
    return _config(settings, base, "cpu" if quantization in CPU_ONLY else "cuda", quantization)


def _config(settings: Settings, base: Path, device: str, quantization: str, num_tokens: int = 0) -> EngineConfig:
    try:
        return EngineConfig(
            base=base,
            device=device,
            quantization=quantization,
            num_tokens=num_tokens,
            num_slots=settings.slots,
            max_batch=settings.max_batch,
            max_step_tokens=max(STEP_TOKENS, settings.max_batch),
            max_queue=settings.max_queue,
            max_context=settings.max_context or 0,
            kv_dtype=settings.kv_dtype,
            memory_bytes=settings.memory,
            deadline_s=settings.deadline_seconds,
            adapter_cache_bytes=settings.host_memory_bytes,
            adapter_storage=settings.adapter_storage,
            lowered_dir=settings.cache_dir / "lowered",
            lowered_bytes=settings.lowered_cache,
        )
    except ValueError as fault:
        raise SettingsInvalid(str(fault)) from fault
