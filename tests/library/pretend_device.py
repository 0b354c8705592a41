"""A GPU that is not there: tensors that say they lie on ``cuda:0``, and are computed with by the CPU.

Inside of :func:`pretend_device` everything that is moved to ``cuda`` or made there becomes a :class:`OnDevice`, which holds
a real tensor of the CPU. Every operator runs on what is held, so comparisons, branches and results are real and equal those
of the CPU to the last bit, while each use that a GPU would refuse is refused in PyTorch's words: an operator on tensors of
two devices, NumPy's view of a tensor of the device, a generator of the CPU for random numbers on the device, and operators
that :func:`torch.use_deterministic_algorithms` does not allow on CUDA. What PyTorch permits passes: numbers of the CPU
(tensors without dimensions) in operators that work element by element, and indices of the CPU.

It cannot show what only a GPU has: its rounding, memory and speed, its own random numbers (the CPU's generator draws them
here), whether CUDA has a kernel for an operator and for its layout, and the loops over all weights at once that optimisers
use there. It holds in the thread that entered it alone.

PyTorch itself takes such a tensor for one of its ``meta`` device, which autograd handles without a GPU, and Python code is
told ``cuda:0``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE, CPU, META = torch.device("cuda", 0), torch.device("cpu"), torch.device("meta")
MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
NO_NUMPY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."

aten = torch.ops.aten
#: Operators that copy from one device to another.
COPIES = {aten.copy_.default, aten._to_copy.default}
#: Operators whose indices may be the CPU's.
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_}
#: Operators that take a number of the CPU, beside those that work element by element.
WITH_A_NUMBER = {aten.fill_, aten.fill, aten.masked_fill, aten.masked_fill_, *INDEXING}
#: What ``torch.use_deterministic_algorithms`` says that it refuses on CUDA, in PyTorch 2.9 or later.
NOT_DETERMINISTIC = {
    "avg_pool3d_backward",
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool3d_backward",
    "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward",
    "max_pool3d_with_indices_backward",
    "max_unpool2d",
    "max_unpool3d",
    "upsample_linear1d_backward",
    "upsample_bilinear2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_trilinear3d_backward",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
    "nll_loss2d_forward",
    "nll_loss2d_backward",
    "_ctc_loss_backward",
    "_embedding_bag_dense_backward",
    "put_",
    "put",
    "histc",
    "bincount",
    "median.dim",
    "nanmedian.dim",
    "kthvalue",
    "cumsum",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "scatter_reduce",
    "scatter_reduce_",
}


class OnDevice(Tensor):
    """A tensor of the pretend device, around the one of the CPU that it holds."""

    held: Tensor
    device = property(lambda self: DEVICE)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        wrapped = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=META
        )
        wrapped.held = held
        return wrapped

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _operate(func, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.held})"


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """Let there be a GPU, and give its device."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    there = {
        "is_available": lambda: True,
        "get_device_name": lambda device=None: "a pretend device",
        "synchronize": lambda: None,
        "is_current_stream_capturing": lambda: False,
        # Its numbers are those of the CPU's generator, so it has no state of its own.
        "get_rng_state": lambda device: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": _refuse_another_state,
    }
    try:
        # Optimisers ask it for a stream, which there is none of.
        nothing = mock.patch.object(torch.accelerator, "current_accelerator", return_value=None)
        with nothing, mock.patch.multiple(torch.cuda, **there), _Calls(), _Operators():
            yield DEVICE
    finally:
        torch.use_deterministic_algorithms(deterministic)


def _refuse_another_state(state: Tensor, device: torch.device) -> None:
    """As CUDA does: a state lies on the CPU, and is the one that was got."""
    if isinstance(state, OnDevice) or state.dtype != torch.uint8 or state.shape != (16,):
        raise TypeError(f"expected a state of the generator, got {state}")


class _Calls(TorchFunctionMode):
    """Calls from Python, before PyTorch looks for a device that is not there."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.numpy, Tensor.__array__, Tensor.tolist) and isinstance(args[0], OnDevice):
            if func is Tensor.tolist:
                return args[0].held.tolist()
            raise TypeError(NO_NUMPY)
        if func is torch.device:
            return func(*args, **kwargs)  # a name alone
        if func is Tensor.cuda:
            return args[0].to(META)
        if func in (torch.tensor, torch.as_tensor, Tensor.new_tensor):
            # For its own meta device PyTorch would leave the values out.
            device = kwargs.pop("device", None) or (args[0].device if func is Tensor.new_tensor else None)
            made = torch.tensor(*args[1:], **kwargs) if func is Tensor.new_tensor else func(*args, **kwargs)
            return made if device is None else made.to(_named(device))
        return func(*_each(_named, args), **_each(_named, kwargs))


def _named(value: Any) -> Any:
    """The device that PyTorch is told in place of CUDA."""
    is_device = isinstance(value, torch.device) and value.type == "cuda"
    return META if is_device or (isinstance(value, str) and value.partition(":")[0] == "cuda") else value


class _Operators(TorchDispatchMode):
    """All operators, also those that make a tensor out of nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _operate(func, args, kwargs or {})


def _operate(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operator on what is held; what comes out lies on the device if something that went in does, or if it is told to."""
    values: list[Tensor] = []
    _each(lambda value: values.append(value) if isinstance(value, Tensor) else None, (args, kwargs))
    on_device = any(isinstance(value, OnDevice) for value in values)
    if on_device and func not in COPIES:
        _refuse_mixed(func, args, values)
    told = kwargs.get("device")
    stays = on_device if told is None else told == META
    if func is aten.copy_.default:
        stays = isinstance(args[0], OnDevice)
    if stays:
        _refuse_on_device(func, kwargs)
    wrapped = {id(value.held): value for value in values if isinstance(value, OnDevice)}
    held = _each(_held, kwargs) | ({} if told is None else {"device": CPU})
    made = func(*_each(_held, args), **held)
    if torch.Tag.inplace_view in func.tags and stays:
        with torch._C._DisableTorchDispatch():
            func(*args, **kwargs)  # the wrapper's own shape, too
    for value in wrapped.values():
        assert value.shape == value.held.shape, f"{func} changes a shape in place, which a pretend tensor cannot follow"

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return wrapped[id(value)] if id(value) in wrapped else OnDevice(value)

    return _each(wrap, made) if stays else made


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """A value as an operator takes or gives it, with a change of whatever stands in its lists, tuples and dictionaries."""
    match value:
        case list() | tuple() if type(value) in (list, tuple):
            return type(value)([_each(change, item) for item in value])
        case dict():
            return {key: _each(change, item) for key, item in value.items()}
        case _:
            return change(value)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnDevice) else value


def _refuse_mixed(func: Any, args: Any, values: list[Tensor]) -> None:
    """Raise PyTorch's error if an operator has a tensor of the CPU that it may not have beside those of the device."""
    packet = func.overloadpacket
    if packet in INDEXING:
        subject, indices, *rest = args
        indices = [index for index in indices if index is not None]
        if not isinstance(subject, OnDevice) and any(isinstance(index, OnDevice) for index in indices):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        values = [subject, *(value for value in rest if isinstance(value, Tensor))]
    takes_numbers = torch.Tag.pointwise in func.tags or packet in WITH_A_NUMBER
    writes_to = args[0] if func._schema.is_mutable and args else None
    for value in values:
        is_number = value.dim() == 0 and takes_numbers and value is not writes_to
        if not isinstance(value, OnDevice) and not is_number:
            raise RuntimeError(f"{MIXED} (when checking arguments of {func})")


def _refuse_on_device(func: Any, kwargs: dict[str, Any]) -> None:
    """Raise PyTorch's error for a generator of the CPU, and for what has no deterministic form on CUDA."""
    if kwargs.get("generator") is not None:
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    name = func.overloadpacket.__name__
    if torch.are_deterministic_algorithms_enabled() and {name, f"{name}.{func._overloadname}"} & NOT_DETERMINISTIC:
        raise RuntimeError(
            f"{name} does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'."
        )
