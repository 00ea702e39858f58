"""C++ source in, loaded shared library out, through the system's compiler and a cache on disk."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from composer.errors import BackendError
from composer.runtime import cache

_ALWAYS = ("-std=c++17", "-fPIC")
_TRIAL = """#include <cmath>
#ifdef _OPENMP
#include <omp.h>
extern "C" int composer_threads() { return omp_get_max_threads(); }
#endif
extern "C" double composer_trial(double x) { return std::exp(x); }
"""
_LINES_SHOWN = 12
_loaded: dict[str, ctypes.CDLL] = {}


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: the command that starts it and what it says about itself."""

    command: tuple[str, ...]
    version: str


def library(
    source: str, openmp: bool = True, march: str = "native", optimize: str = "-O3", fast_math: bool = True, extra: tuple[str, ...] = ()
) -> ctypes.CDLL:
    """Compile a C++17 source, or find it compiled, and load it.

    Arguments: source, the text of one translation unit with `extern "C"` functions (no text of a user may stand in it);
    openmp, march, optimize, fast_math, extra, the flags wanted; flags that the compiler refuses are left out, and the environment variable
    COMPOSER_OPT stands above `optimize`, COMPOSER_MARCH above `march`.
    Returns: the library; the same object for the same source and flags.
    Errors: BackendError when there is no compiler or it fails.
    """
    return libraries([source], openmp, march, optimize, fast_math, extra)[0]


def libraries(
    sources: Sequence[str],
    openmp: bool = True,
    march: str = "native",
    optimize: str = "-O3",
    fast_math: bool = True,
    extra: tuple[str, ...] = (),
) -> list[ctypes.CDLL]:
    """Compile several sources at once, one compiler process for each core; see `library`.

    Returns: one library for each source, in order.
    """
    compiler = find_compiler()
    flags = compile_flags(compiler, openmp, march, optimize, fast_math, extra)
    names = [_key(source, *flags, *compiler.command, compiler.version, cpu_features()) for source in sources]
    missing = {name: source for name, source in zip(names, sources, strict=True) if name not in _loaded}
    if missing:
        with ThreadPoolExecutor(max_workers=min(_cores(), len(missing))) as pool:
            made = pool.map(lambda item: _obtain(compiler, flags, *item), missing.items())
            _loaded.update(zip(missing, made, strict=True))
    return [_loaded[name] for name in names]


def doctor() -> dict[str, str]:
    """What stands ready for native code on this machine, never raising.

    Returns: compiler, version, flags, cpu, cache (the folder written to), cores; and problem, when something is missing.
    """
    report = {"cpu": cpu_features(), "cores": str(_cores())}
    try:
        report["cache"] = str(cache.writable_folder())
        compiler = find_compiler()
        report |= {"compiler": shlex.join(compiler.command), "version": compiler.version}
        report["flags"] = shlex.join(compile_flags(compiler))
    except BackendError as error:
        report["problem"] = str(error)
    return report


def find_compiler() -> Compiler:
    """The C++ compiler to use: the command in the environment variable CXX, else g++, clang++, or the one in the wheel `ziglang`.

    Errors: BackendError when none is there.
    """
    return _find_compiler(os.environ.get("CXX", "").strip(), os.environ.get("PATH", ""))


@functools.lru_cache
def _find_compiler(wanted: str, path: str) -> Compiler:
    commands = [tuple(shlex.split(wanted))] if wanted else [("g++",), ("clang++",), *_in_a_wheel()]
    for command in commands:
        if shutil.which(command[0], path=path):
            said = _run([*command, "--version"])
            return Compiler(command, said.stdout.partition("\n")[0].strip())
    raise BackendError(
        "A C++ compiler was needed to build the kernels of an expression",
        f"CXX names {wanted!r}, which is not there" if wanted else "CXX is not set, and there is neither g++ nor clang++ on PATH",
        "Install one (apt install g++, dnf install gcc-c++, xcode-select --install; without such rights: pip install ziglang) "
        "or name one: export CXX=/path/to/g++",
    )


def _in_a_wheel() -> list[tuple[str, ...]]:
    """The clang of the wheel `ziglang`, for those who may install nothing but wheels; it has no OpenMP."""
    return [(sys.executable, "-m", "ziglang", "c++", "-fno-sanitize=undefined")] if importlib.util.find_spec("ziglang") else []


@functools.cache
def cpu_features() -> str:
    """The processor's model and instruction sets, which a library built with -march=native depends on."""
    lines: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                field, _, value = line.partition(":")
                lines.setdefault(field.strip(), value.strip())
                if not field.strip():
                    break  # the first processor stands for all
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    model = lines.get("model name", platform.processor())
    return f"{platform.machine()} {model} {lines.get('flags') or lines.get('Features', '')}"


def compile_flags(
    compiler: Compiler,
    openmp: bool = True,
    march: str = "native",
    optimize: str = "-O3",
    fast_math: bool = True,
    extra: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Those of the wanted flags that this compiler accepts in a trial, remembered on disk.

    Errors: BackendError when the compiler cannot even build an empty program.
    """
    level = os.environ.get("COMPOSER_OPT") or optimize
    if not re.fullmatch(r"-O[0-3sg]?", level):
        raise BackendError(f"The optimisation level {level!r} was asked for", "It is not one of -O0 to -O3", "Type export COMPOSER_OPT=-O1")
    march = os.environ.get("COMPOSER_MARCH") or march
    if march and not re.fullmatch(r"[a-z0-9_.+-]+", march):
        raise BackendError(f"Code for the processor {march!r} was asked for", "That is no name of one", "Type export COMPOSER_MARCH=native")
    wanted = [*_ALWAYS, level]
    wanted += [f"-march={march}", "-mprefer-vector-width=512"] if march else []
    wanted += ["-ffast-math"] if fast_math else []
    wanted += ["-fopenmp"] if openmp else []
    wanted += extra
    return _accepted(compiler, tuple(wanted), cpu_features())


@functools.lru_cache
def _accepted(compiler: Compiler, wanted: tuple[str, ...], cpu: str) -> tuple[str, ...]:
    name = _key(_TRIAL, *wanted, *compiler.command, compiler.version, cpu) + ".flags.json"
    known = cache.find(name)
    if known:
        return tuple(json.loads(known.read_text()))
    with cache.writing(name) as workplace:
        flags = _probe(compiler, wanted, workplace)
        note = workplace / "flags.json"
        note.write_text(json.dumps(flags))
        cache.keep(note, workplace.parent / name)
    return flags


def _probe(compiler: Compiler, wanted: tuple[str, ...], workplace: Path) -> tuple[str, ...]:
    def works(flags: tuple[str, ...]) -> bool:
        try:
            with tempfile.TemporaryDirectory(dir=workplace) as folder:  # of its own: what bears a known path is not loaded again
                ctypes.CDLL(str(_compile(compiler, flags, _TRIAL, Path(folder))))
        except (BackendError, OSError):  # OSError: built, but it lacks what it needs when it runs, as the library of OpenMP
            return False
        return True

    if works(wanted):
        return wanted
    _compile(compiler, _ALWAYS, _TRIAL, workplace)  # says why, if not even this can be built
    return tuple(flag for flag in wanted if flag in _ALWAYS or works((*_ALWAYS, flag)))


def _obtain(compiler: Compiler, flags: tuple[str, ...], key: str, source: str) -> ctypes.CDLL:
    name = f"{key}.so"
    known = cache.find(name)
    found = _load(known) if known else None
    if found is not None:
        return found
    with cache.writing(name) as workplace:
        target = workplace.parent / name
        if not cache.trusted(target):  # else another process has built it while this one waited
            cache.keep(_compile(compiler, flags, source, workplace), target)
    made = _load(target)
    if made is None:
        raise BackendError(
            "A freshly compiled library was to be loaded",
            f"The system refuses to load it from {target.parent}",
            "Set COMPOSER_CACHE to a folder of yours from which programs may run",
        )
    return made


def _load(path: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # damaged: make it again
        with contextlib.suppress(OSError):
            path.unlink()
        return None


def _compile(compiler: Compiler, flags: tuple[str, ...], source: str, workplace: Path) -> Path:
    text, unit, shared = workplace / "source.cpp", workplace / "source.o", workplace / "library.so"
    text.write_text(source)
    _call(compiler, [*flags, "-c", str(text), "-o", str(unit)])
    # linked without -ffast-math: with it, loading the library would flush subnormals in the whole process
    openmp = [flag for flag in flags if flag == "-fopenmp"]
    _call(compiler, ["-shared", *openmp, str(unit), "-o", str(shared)])
    return shared


def _call(compiler: Compiler, arguments: list[str]) -> None:
    done = _run([*compiler.command, *arguments])
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["(it said nothing)"]
        raise BackendError(
            f"A program was to be built with {shlex.join(compiler.command)}",
            f"The compiler ended with status {done.returncode} and said:\n" + "\n".join(said[:_LINES_SHOWN]) + "\n",
            "Type `composer doctor` to see the compiler and its flags, or name another compiler: export CXX=g++",
        )


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", env=os.environ | {"LC_ALL": "C"}, check=False)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
