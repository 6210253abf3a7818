"""GPU kernels in Triton: pure functions of plain tensors. They know no layers, no slots' owners and no scheduler.

Each is tested against plain torch through Triton's interpreter, which needs no GPU. A launch grid depends on shapes
alone, never on values, so that every one of them can be captured in a CUDA graph; none uses atomics, and no row's
result depends on the rows beside it. Triton comes with the CUDA build of torch: import the modules below only where
`AVAILABLE` is true.
"""

from importlib.util import find_spec

AVAILABLE = find_spec("triton") is not None
