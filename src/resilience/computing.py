"""How PyTorch computes in a job: on which device, with how many threads, and always with the same result."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from resilience import devices
from resilience.progress import logger

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
_workers = 1


def prepare(threads: int) -> torch.device:
    """Set PyTorch up and return the device to use: CUDA when there is one, else the CPU. The log says which.

    Work is shared among threads in chunks of images (:func:`in_chunks`), each computed by one thread, so that results do not
    depend on their number. Denormal numbers are flushed to zero, which makes chains under wide priors several times faster
    and changes nothing that is measured.
    """
    global _workers
    _workers = threads
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    devices.take()
    given = os.environ.get(devices.CUDA)
    if not torch.cuda.is_available():
        if given:
            logger.warning("was given device %s, but PyTorch finds none: computes on the CPU", given)
        return torch.device("cpu")
    logger.info("computes on device %s, %s", given or "0", torch.cuda.get_device_name())
    # On the CPU nothing here depends on it, and the call imports the compiler, which takes longer than most jobs.
    torch.use_deterministic_algorithms(True)
    # Some releases of PyTorch then refuse every matrix product, unless cuBLAS was told so before the first one.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")


def in_chunks(work: Callable[[slice], None], total: int, size: int) -> None:
    """Do ``work`` on every slice of ``size`` among ``total`` items, by as many threads as :func:`prepare` was given."""
    parts = [slice(first, min(first + size, total)) for first in range(0, total, size)]
    if _workers == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(_workers) as pool:
        list(pool.map(torch.no_grad()(work), parts))


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed: it would return every intermediate tensor to the system and fault it in again."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            mallopt(M_MMAP_THRESHOLD, 2**30)
            mallopt(M_TRIM_THRESHOLD, 2**30)
