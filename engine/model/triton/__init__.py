"""GPU kernels in Triton: pure functions of plain tensors. They know no layers, no slots' owners and no scheduler.

Each is tested against plain torch through Triton's interpreter, which needs no GPU. A launch grid depends on shapes
alone, never on values, so that every one of them can be captured in a CUDA graph; none uses atomics, and no row's
result depends on the rows beside it. Triton comes with the CUDA build of torch: import the modules below only where
`AVAILABLE` is true.
"""

from importlib.util import find_spec

AVAILABLE = find_spec("triton") is not None

COLUMNS = 8
"""Columns of K beside a slot's full rank that the adapter kernels have room for."""
RANK_BLOCK = 16
"""Rows of A that one program multiplies."""
CHUNK = 256
"""Columns of A that one program multiplies."""
SPLITS = 16
"""Parts of a context at most: with 8 key heads, a single row fills 128 programs."""
