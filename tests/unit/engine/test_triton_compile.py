"""Triton's compiler needs no GPU: every kernel, in every variant that the engine uses, down to machine code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

PROGRAM = """
import sys
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction
from engine.model.triton.attention import paged_attention, write_cache
from engine.model.triton.fused import norm_rope, rms_norm, silu_mul
from engine.model.triton.low_rank import diagonal, low_rank

class NoDevice:
    def get_current_target(self):
        return GPUTarget("cuda", int(sys.argv[1]), 32)
    def get_current_device(self):
        return 0
    def get_current_stream(self, device):
        return 0

driver.set_active(NoDevice())
launch, compiled = JITFunction.run, set()

def compile_only(self, *args, grid, warmup, **kwargs):
    kernel = launch(self, *args, grid=grid, warmup=True, **kwargs)
    compiled.add((self.fn.__name__, kernel.hash, len(kernel.asm["cubin"]) > 0))

JITFunction.run = compile_only
slots, weights = torch.zeros(4, 2, dtype=torch.int32), torch.zeros(4, 2)
shapes, tables, lengths = (torch.zeros(*size, dtype=torch.int32) for size in ((3, 3), (4, 100), (4,)))
for dtype in (torch.bfloat16, torch.float16, torch.float32):
    x, y, g, gain, k = (torch.zeros(*size, dtype=dtype) for size in ((4, 1024), (4, 96), (3, 96), (1024,), (3, 310)))
    a, b = torch.zeros(3, 32, 1024, dtype=dtype), torch.zeros(3, 32, 96, dtype=dtype)
    for scales in (g, None):
        low_rank(y, x, a, b, k, shapes, slots, weights, 8, scales)
    diagonal(y, g, slots, weights)
    rms_norm(x, gain, 1e-6)
    rms_norm(x, gain, 1e-6, added=x)
    silu_mul(x, x)
    query, key, turn = torch.zeros(4, 16, 128, dtype=dtype), torch.zeros(4, 8, 128, dtype=dtype), torch.zeros(4, 128)
    norm_rope(query, gain[:128], turn, turn, 1e-6)
    for cache, scales in ((dtype, None), (torch.int8, torch.zeros(9, 16, 8))):
        keys = torch.zeros(9, 16, 8, 128, dtype=cache)
        write_cache(key, key, keys, keys, lengths, scales, scales)
        paged_attention(query, keys, keys, tables, lengths, 0.1, scales, scales)
assert all(code for _, _, code in compiled)
print(*sorted({name for name, _, _ in compiled}), len(compiled))
"""


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_compiles_for_a_device_that_is_not_there(capability: int, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", PROGRAM, str(capability)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    names = "_attend _combine _diagonal _expand _norm_rope _rms_norm _shrink _silu_mul _write"
    assert run.stdout.rsplit(maxsplit=1)[0] == names
