"""How PyTorch computes in a job: on which device, with how many threads, and always with the same result."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from resilience import devices
from resilience.progress import logger

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
_workers = 1


def prepare(threads: int) -> torch.device:
    """Set PyTorch up and return the device to use: CUDA when there is one, else the CPU. The log says which.

    Work is shared among threads in chunks of images (:func:`in_chunks`), each computed by one thread, so that results do not
    depend on their number. Denormal numbers are kept: the gradient of a confident network is made of them, and an attack
    that takes its sign moves the image along it.
    """
    global _workers
    _workers = threads
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)
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


def name_of(device: torch.device) -> str:
    """What a history says of a device: ``cpu``, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Numbers below 1.2e-38 are zero here, which some processors compute with a hundred times slower than with others.

    Only for sums in which they are lost anyway. A gradient whose sign is taken is none, nor is a heat map whose pixels are
    ranked.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def in_chunks(work: Callable[[slice], None], total: int, size: int) -> None:
    """Do ``work`` on every slice of ``size`` among ``total`` items, by as many threads as :func:`prepare` was given."""
    parts = [slice(first, min(first + size, total)) for first in range(0, total, size)]
    if _workers == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(_workers) as pool:
        list(pool.map(torch.no_grad()(work), parts))


def joined(of_part: Callable[[slice], torch.Tensor], total: int, size: int) -> torch.Tensor:
    """What a function gives of every slice of ``size`` among ``total`` items, put together again along the first axis."""
    found: dict[int, torch.Tensor] = {}

    def work(part: slice) -> None:
        found[part.start] = of_part(part)

    in_chunks(work, total, size)
    return torch.cat([found[start] for start in sorted(found)])


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed: it would return every intermediate tensor to the system and fault it in again."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            mallopt(M_MMAP_THRESHOLD, 2**30)
            mallopt(M_TRIM_THRESHOLD, 2**30)
