"""What must be settled before any module of ours is imported."""

import os

import torch

if not torch.cuda.is_available():
    # Triton decides when a kernel is defined whether to interpret it; on a CPU there is no other way to run it.
    os.environ.setdefault("TRITON_INTERPRET", "1")
