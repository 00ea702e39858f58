"""Launching CUDA kernels: on a GPU through NVRTC and the driver, called by ctypes on torch's current stream."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence

import torch

from composer.errors import BackendError
from composer.runtime import nvrtc

Launch = Callable[[ctypes.Structure, int, int], None]  # arguments, blocks, threads of a block
Builder = Callable[[str, Sequence[str]], list[Launch]]  # source, names of kernels


def device_builder(device: str | torch.device) -> tuple[Builder, torch.device]:
    """What compiles kernels for a GPU and launches them there, and the GPU with its number: "cuda" is the present one.

    Errors: BackendError when there is no such GPU, or no NVRTC.
    """
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise BackendError(
            f"Kernels for the device {device!r} were asked for", "torch knows no such device", "Write device='cuda'"
        ) from error
    if not torch.cuda.is_available():
        why = "This build of torch has no CUDA" if torch.version.cuda is None else "torch finds no GPU"
        raise BackendError(
            f"Kernels for the device {place} were asked for", why, "Compile the model with device='cpu', or use a machine with a GPU"
        )
    if place.type != "cuda" or (place.index or 0) >= torch.cuda.device_count():
        raise BackendError(
            f"Kernels for the device {place} were asked for",
            f"torch finds {torch.cuda.device_count()} GPUs here",
            "Write device='cuda' or device='cuda:0'",
        )
    index = torch.cuda.current_device() if place.index is None else place.index
    major, minor = torch.cuda.get_device_capability(index)
    return functools.partial(_build, index, f"sm_{major}{minor}"), torch.device("cuda", index)


def _build(device: int, architecture: str, source: str, names: Sequence[str]) -> list[Launch]:
    cubin = nvrtc.compiled(source, architecture).cubin
    driver, context, module = _driver(), ctypes.c_void_p(), ctypes.c_void_p()
    with torch.cuda.device(device):
        torch.zeros(1, device="cuda")  # makes torch's context the current one of this thread
        _check(driver.cuCtxGetCurrent(ctypes.byref(context)), "name its context")
        _check(driver.cuModuleLoadData(ctypes.byref(module), cubin), "load")
        return [_launch(device, context, module, name) for name in names]


def _launch(device: int, context: ctypes.c_void_p, module: ctypes.c_void_p, name: str) -> Launch:
    driver, function = _driver(), ctypes.c_void_p()
    # lazy loading ends here: nothing is left to load at the first launch, which may be inside a graph
    _check(driver.cuModuleGetFunction(ctypes.byref(function), module, name.encode()), f"find {name}")

    def launch(args: ctypes.Structure, blocks: int, threads: int) -> None:
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(args))  # copied by the driver before it returns
        stream = ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)
        _check(driver.cuCtxPushCurrent_v2(context), "enter its context")  # a thread may have none yet, or that of another GPU
        try:
            _check(driver.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, parameters, None), f"launch {name}")
        finally:
            driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))

    return launch


@functools.cache
def _driver() -> ctypes.CDLL:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise BackendError(
            "A kernel was to run on the GPU", f"Its driver does not load: {error}", "Install the driver of the GPU"
        ) from error
    pointer, count = ctypes.c_void_p, ctypes.c_uint
    driver.cuCtxGetCurrent.argtypes = driver.cuCtxPopCurrent_v2.argtypes = [ctypes.POINTER(pointer)]
    driver.cuCtxPushCurrent_v2.argtypes = [pointer]
    driver.cuModuleLoadData.argtypes = [ctypes.POINTER(pointer), ctypes.c_char_p]
    driver.cuModuleGetFunction.argtypes = [ctypes.POINTER(pointer), pointer, ctypes.c_char_p]
    driver.cuLaunchKernel.argtypes = [pointer, *[count] * 7, pointer, ctypes.POINTER(pointer), ctypes.POINTER(pointer)]
    driver.cuGetErrorName.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
    return driver


def _check(status: int, what: str) -> None:
    if status:
        name = ctypes.c_char_p()
        _driver().cuGetErrorName(status, ctypes.byref(name))
        raise BackendError(
            f"The GPU was asked to {what}",
            f"Its driver answered {status} {(name.value or b'').decode()}",
            "Look at nvidia-smi; start a new process after an illegal access",
        )


__all__ = ["Builder", "Launch", "device_builder"]
