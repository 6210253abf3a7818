"""What must be settled before any module of ours is imported, and how garbage is looked for."""

import gc
import os

import torch

if not torch.cuda.is_available():
    # Triton decides when a kernel is defined whether to interpret it; on a CPU there is no other way to run it.
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_finish() -> None:
    """The modules stay for good: searching them for garbage takes a tenth of a second, hundreds of times."""
    gc.collect()
    gc.freeze()
