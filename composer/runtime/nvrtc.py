"""CUDA text in, machine code for one kind of GPU out: NVRTC called through ctypes. It needs no GPU and no toolkit, only the wheel of NVRTC."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from composer.errors import BackendError
from composer.runtime import cache

OPTIONS = (
    "--std=c++17", "--ptxas-options=-v", "--diag-suppress=177,550",  # names that one kernel of many does not use
    "--ftz=true", "--prec-div=false", "--prec-sqrt=false",  # quotients and roots of float32 in one instruction, to 2 units of the last place
)  # fmt: skip
NAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")
_LINES_SHOWN = 12


@dataclass(frozen=True)
class Usage:
    """What the compiler says of a kernel: registers and bytes of a thread."""

    registers: int
    stack: int  # bytes in local memory, arrays included
    spills: int  # bytes stored because registers ran out


@dataclass(frozen=True)
class Compiled:
    """Machine code, and the compiler's log."""

    cubin: bytes
    log: str

    def usage(self) -> dict[str, Usage]:
        """Registers, stack and spills of each kernel, from the log."""
        found = {}
        for part in self.log.split("Compiling entry function '")[1:]:
            numbers = [re.search(p, part) for p in (r"Used (\d+) registers", r"(\d+) bytes stack frame", r"(\d+) bytes spill stores")]
            found[part[: part.index("'")]] = Usage(*(int(n.group(1)) if n else 0 for n in numbers))
        return found


def compiled(source: str, architecture: str) -> Compiled:
    """Compile CUDA text, or find it compiled.

    Arguments: source, one translation unit with `extern "C"` kernels (no text of a user may stand in it); architecture, such as "sm_90".
    Errors: BackendError without NVRTC, and when it refuses the text.
    """
    key = hashlib.sha256("\0".join([source, architecture, *OPTIONS, str(version())]).encode()).hexdigest()[:40]
    code, log = f"{key}.cubin", f"{key}.log"
    for attempt in range(2):
        known, said = cache.find(code), cache.find(log)
        if known and said:
            return Compiled(known.read_bytes(), said.read_text())
        if attempt == 0:
            with cache.writing(code) as workplace:
                made = _compile(source, architecture)
                (workplace / log).write_text(made.log)
                (workplace / code).write_bytes(made.cubin)
                cache.keep(workplace / log, workplace.parent / log)
                cache.keep(workplace / code, workplace.parent / code)
    raise BackendError(
        "Compiled CUDA was to be kept on disk", "It is gone right after it was written", "Set COMPOSER_CACHE to another folder"
    )


def version() -> tuple[int, int]:
    """Version of NVRTC."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_nvrtc().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "version")
    return major.value, minor.value


def available() -> bool:
    """Whether NVRTC is there."""
    try:
        _nvrtc()
    except BackendError:
        return False
    return True


@functools.cache
def _nvrtc() -> ctypes.CDLL:
    driver = _driver_version()
    for place in sorted((*_wheels(), *NAMES), key=lambda p: _newer(str(p), driver)):  # in this order otherwise
        try:
            library = ctypes.CDLL(str(place))
        except OSError:
            continue
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        return library
    raise BackendError(
        "CUDA kernels were to be compiled",
        "NVRTC, the compiler that does it, is not on this machine",
        "Type pip install 'composer-potentials[cuda]'",
    )


def _driver_version() -> int:
    """The major version of CUDA that the driver of this machine knows, 0 without one."""
    version = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return 0
    return version.value // 1000


def _newer(library: str, driver: int) -> bool:
    """Whether a library makes code that a driver of this version may not load."""
    major = library.rpartition(".so.")[2]
    return driver > 0 and major.isdigit() and int(major) > driver


def _wheels() -> list[Path]:
    """Where wheels put the library."""
    spec = importlib.util.find_spec("nvidia")
    homes = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    return [p for home in homes for n in NAMES for p in sorted(home.glob(f"*/lib/{n}"), reverse=True)]


def _compile(source: str, architecture: str) -> Compiled:
    nvrtc, program = _nvrtc(), ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None), "create")
    try:
        options = [o.encode() for o in (f"--gpu-architecture={architecture}", *OPTIONS)]
        status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = _text(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).rstrip(b"\0").decode(errors="replace")
        if status:
            said = [line for line in log.splitlines() if "error" in line][:_LINES_SHOWN] or log.splitlines()[:_LINES_SHOWN]
            raise BackendError(
                f"CUDA kernels were to be compiled for {architecture}",
                f"NVRTC {'.'.join(map(str, version()))} refused ({nvrtc.nvrtcGetErrorString(status).decode()}):\n" + "\n".join(said) + "\n",
                "Type pip install -U nvidia-cuda-nvrtc, or compile the model with device='cpu'",
            )
        return Compiled(_text(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN), log)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(program: ctypes.c_void_p, size_of, read) -> bytes:
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)), "size")
    text = ctypes.create_string_buffer(size.value)
    _check(read(program, text), "read")
    return text.raw


def _check(status: int, what: str) -> None:
    if status:
        said = _nvrtc().nvrtcGetErrorString(status).decode()
        raise BackendError("CUDA kernels were to be compiled", f"NVRTC failed at {what}: {said}", "Type pip install -U nvidia-cuda-nvrtc")


__all__ = ["Compiled", "Usage", "available", "compiled", "version"]
