"""The engine's settings, checked once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

AdapterStorage = Literal["plain", "int8", "int4"]

QUANTIZATIONS = ("int8", "int4", "nf4", "bf16", "fp32")
CPU_ONLY = ("int8", "int4")
STEP_TOKENS = 512


@dataclass(frozen=True, slots=True)
class EngineConfig:
    base: Path
    """Directory of the base model: config.json and safetensors."""
    device: str = "cpu"
    quantization: str = "int8"
    """int8 is the default on a CPU, nf4 on CUDA; int4 is for a CPU too; bf16 and fp32 leave the weights as they are."""
    num_tokens: int = 0
    """Length of the tokenizer; ids from here on are never drawn. 0 means every row of the head."""
    num_slots: int = 10
    max_rank: int = 32
    """Rank that a slot has room for; every slot pays for it."""
    max_virtual_tokens: int = 32
    """Soft-prompt rows that a slot has room for."""
    max_batch: int = 32
    max_queue: int = 128
    deadline_s: float | None = None
    """Seconds that any request may take, queued and running together; a request may set itself fewer."""
    max_step_tokens: int = STEP_TOKENS
    """Tokens of one step over all rows; longer prompts are prefilled in chunks."""
    max_context: int = 0
    """Positions of one sequence. 0 means what the base was made for, within the memory of the KV cache."""
    block_size: int = 16
    kernels: str = "fused"
    """fused takes the CPU's own kernels for int8 and int4, and Triton's on CUDA, where they are there and fit; plain
    never does. triton asks for the latter on a CPU too, where only Triton's interpreter can run them: for tests."""
    kv_dtype: str = "auto"
    """auto keeps keys and values in bf16 (fp32 where the weights are), int8 in half of that."""
    kv_blocks: int = 0
    """Blocks of the KV cache. 0 means enough for a full batch of full contexts, within what `memory_bytes` leaves."""
    memory_bytes: int = 0
    """Device memory for weights, slots, KV cache and a step. 0 means no bound but 2 GiB for the KV cache."""
    prefix_cache: bool = True
    """Keep the KV of full blocks and find it again for requests that begin alike under the same mixture."""
    jump_ahead: bool | None = None
    """Take tokens that a grammar forces without a forward pass for each. None does where that is known to pay: on a
    CPU; on CUDA a step that reads several tokens of a row is none of the recorded ones."""
    adapter_cache_bytes: int = 2 << 30
    """Host memory for lowered adapters, beside those that are in use."""
    adapter_storage: AdapterStorage = "plain"
    """How A and B of lowered adapters are kept in host memory and on disk: as the slots hold them, or in fewer bits."""
    lowered_dir: Path | None = None
    """Where lowered adapters are kept on disk; None keeps none."""
    lowered_bytes: int = 4 << 30
    """Disk space for them."""

    @property
    def is_jumping(self) -> bool:
        return self.device == "cpu" if self.jump_ahead is None else self.jump_ahead

    def __post_init__(self) -> None:
        if self.quantization not in QUANTIZATIONS:
            raise ValueError(f"quantization {self.quantization!r} is not one of {', '.join(QUANTIZATIONS)}")
        if self.quantization in CPU_ONLY and self.device != "cpu":
            raise ValueError(f"{self.quantization} runs on a CPU only; use nf4 or bf16 on CUDA")
        if self.kernels not in ("fused", "plain", "triton"):
            raise ValueError(f"kernels {self.kernels!r} is not one of fused, plain, triton")
        if self.kv_dtype not in ("auto", "int8"):
            raise ValueError(f"kv_dtype {self.kv_dtype!r} is not one of auto, int8")
        if self.adapter_storage not in get_args(AdapterStorage):
            limits = ", ".join(get_args(AdapterStorage))
            raise ValueError(f"adapter_storage {self.adapter_storage!r} is not one of {limits}")
        for name in (
            "num_slots",
            "max_rank",
            "max_virtual_tokens",
            "max_batch",
            "max_queue",
            "max_step_tokens",
            "block_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, at least 1 is needed")
        if self.memory_bytes < 0:
            raise ValueError(f"memory_bytes is {self.memory_bytes}, at least 0 is needed")
        if self.max_step_tokens < self.max_batch:
            raise ValueError(f"max_step_tokens {self.max_step_tokens} is below max_batch {self.max_batch}")
