"""How PyTorch computes in a job: on which device, with how many threads, and always with the same result."""

from __future__ import annotations

import torch


def prepare(threads: int) -> torch.device:
    """Set PyTorch up and return the device to use: CUDA when there is one, else the CPU.

    Denormal numbers are flushed to zero, which makes chains under wide priors several times faster and changes nothing
    that is measured.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # On the CPU nothing here depends on it, and the call imports the compiler, which takes longer than most jobs.
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")
