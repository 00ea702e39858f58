"""A device that is none: tensors of the CPU that claim to be elsewhere, so that torch's rules of devices hold without a GPU.

What joins tensors of two devices fails as it would there, and every wait of the host for the device is written down.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from composer.opaque import apart

THERE = torch.device("cuda:0")
waits: list[str] = []  # where the host waited
WAITING = ("nonzero", "_unique2", "unique_consecutive", "unique_dim", "repeat_interleave", "masked_select", "bincount", "equal", "histc")
SHARING = ("aten::copy_", "aten::_to_copy", "aten::index.Tensor", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


def _wait(what: str) -> None:
    frames = [f for f in traceback.extract_stack() if "/composer/" in f.filename or "/benchmarks/" in f.filename]
    waits.append(f"{what} at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno} {frames[-1].line}" if frames else what)


class There(torch.Tensor):
    """A tensor of the CPU that claims to be on a GPU."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> There:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype, device="cpu"
        )
        made.inner = inner
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return THERE

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def cpu(self, *_: Any) -> torch.Tensor:  # type: ignore[override]
        _wait("cpu()")
        return _Fetch.apply(self)

    def to(self, *given: Any, **named: Any) -> torch.Tensor:  # type: ignore[override]
        device, dtype, *_ = torch._C._nn._parse_to(*given, **{k: v for k, v in named.items() if k != "copy"})
        leaves = device is not None and device.type == "cpu" and not any(isinstance(g, There) for g in given)
        here = self.cpu() if leaves else self
        more = {"copy": True} if named.get("copy") else {}
        return torch.Tensor.to(here, dtype or self.dtype, **more)

    def tolist(self) -> Any:
        _wait("tolist()")
        return self.detach().inner.tolist()

    def item(self) -> Any:
        _wait("item()")
        return self.detach().inner.item()

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"There({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> torch.Tensor:
        return x.inner.clone()

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return There(slope)


class Device(TorchDispatchMode):
    """Tensors that are made on a GPU are made here."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _run(function: Any, args: Any, kwargs: dict) -> Any:
    name = function._schema.name
    tensors = [t for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)]
    there = [t for t in tensors if isinstance(t, There)]
    wanted = kwargs.get("device")
    if name.startswith("composer::"):
        with Device():
            return torch._library.custom_ops.OPDEFS[name]._init_fn(*args, **kwargs)
    if wanted is not None:
        kwargs = kwargs | {"device": "cpu"}
    elsewhere = bool(there) if wanted is None else torch.device(wanted).type == "cuda"
    others = [t for t in tensors if not isinstance(t, There)]
    if there and any(t.dim() for t in others) and name not in ("aten::is_same_size", "aten::_has_same_storage_numel"):
        if not any(name == s.partition(".")[0] for s in SHARING) or (name != "aten::copy_" and not isinstance(args[0], There)):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        _wait(f"{name} of a tensor of the host")
    elif elsewhere and not there and tensors:
        _wait(f"{name} to the device")
    if there and (
        name.partition("::")[2] in WAITING or (name == "aten::index" and any(i is not None and i.dtype == torch.bool for i in args[1]))
    ):
        _wait(name)
    if name == "aten::_local_scalar_dense" and there:
        _wait("item()")
    inner_args, inner_kwargs = tree_map(lambda t: t.inner if isinstance(t, There) else t, (args, kwargs))
    found = function(*inner_args, **inner_kwargs)
    if name == "aten::copy_" or not elsewhere:
        return args[0] if isinstance(found, torch.Tensor) and name.endswith("_") and found is inner_args[0] else found
    known = {id(t.inner): t for t in there}
    return tree_map(lambda t: known[id(t)] if id(t) in known else There(t) if isinstance(t, torch.Tensor) else t, found)


@contextmanager
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The device is there; what is given lists the waits of the host since then."""
    plain, made = torch.Tensor.to, torch.tensor

    def tensor(data: Any, device: Any = None, **named: Any) -> torch.Tensor:
        return made(data, **named).to(device or "cpu")

    def to(tensor: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        if given and isinstance(given[0], There) and not isinstance(tensor, There):
            return plain(tensor, given[0].dtype).to(THERE)
        return plain(tensor, *given, **named)

    def apart_there(run: Callable[[], Any], place: torch.device) -> Any:
        def known() -> Any:
            with Device():  # what is made there belongs to a thread
                return run()

        return apart(known, place)

    with monkeypatch.context() as patch, Device():
        patch.setattr(torch.Tensor, "to", to)
        patch.setattr(torch, "tensor", tensor)
        patch.setattr("composer.autograd.apart", apart_there)
        patch.setattr("composer.ops.plain.form.apart", apart_there)
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "current_stream", lambda *_: None)
        patch.setattr(torch.cuda, "mem_get_info", lambda *_: (2**33, 2**34))
        waits.clear()
        yield waits
