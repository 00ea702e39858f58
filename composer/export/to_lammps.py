"""Target lammps: a library of the model, a description that the pair style checks, and the lines of input that use them."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from composer.export.c_source import c_header, c_source
from composer.export.check import Engine
from composer.export.kspace import Charged, charged
from composer.export.lammps_engine import Lammps
from composer.export.library import Library, build_library
from composer.export.plugin import NAME, has_lammps, lammps_plugin
from composer.model import Model
from composer.runtime.build import compile_flags, cpu_features, find_compiler

SCHEMA = 1
DESCRIPTION, LIBRARY, INPUT = "potential.txt", "potential.so", "potential.lmp"
HEAD = """# For an input with units metal. The species stand in the order of the atom types: repeat or reorder them as the data file needs.
"""
CHARGED = (
    HEAD
    + """# It goes behind read_data, with atom_style charge (or full): what charges do beyond the cutoff is left to kspace_style, pppm or ewald.
"""
)
ARITHMETIC = "avx|fma|bmi|sse4_|sve|asimd"  # instruction sets that compiled arithmetic needs


def write(model: Model, folder: Path, shown: str) -> str:
    """Write potential.c, .h, .so, .txt, .lmp and, where LAMMPS is installed, the plugin; `shown` is how the user names the folder.

    Errors: AlgebraError when the model sums over all atoms what no kspace_style of LAMMPS does.
    """
    far = charged(model)
    near = far.near if far else model
    (folder / "potential.c").write_text(c_source(near))
    (folder / "potential.h").write_text(c_header(near, {}))
    build_library(folder / "potential.c", folder / LIBRARY)
    (folder / DESCRIPTION).write_text(description(near, (folder / LIBRARY).read_bytes(), far))
    plugin = f"{shown}/{NAME}"
    if has_lammps():
        shutil.copyfile(lammps_plugin(), folder / NAME)
    else:
        plugin = f"./{NAME}"
    lines = _lines(model, plugin, f"{shown}/{DESCRIPTION}", far)
    (folder / INPUT).write_text((CHARGED if far else HEAD) + "\n".join(lines) + "\n")
    hint = "" if has_lammps() else f"\nNo LAMMPS was found: build {NAME} with composer lammps-plugin where it is."
    return f"In a LAMMPS input with units metal (or: include {shown}/{INPUT}):\n" + "\n".join(f"  {line}" for line in lines) + hint


def check_engine(folder: Path, model: Model) -> Engine:
    """The library as the pair style will load it; what kspace_style will do is done by the model."""
    far = charged(model)
    return far.whole(Library(folder / LIBRARY, far.near)) if far else Library(folder / LIBRARY, model)


def engine(folder: Path, model: Model) -> Lammps:
    """LAMMPS with the plugin."""
    far = charged(model)
    return Lammps(model.species, _lines(model, str(lammps_plugin()), str(folder / DESCRIPTION), far), error=far.error if far else 0.0)


def _lines(model: Model, plugin: str, description: str, far: Charged | None) -> list[str]:
    """The lines of input."""
    lines = [f"plugin load {plugin}", f"pair_style composer {description}", f"pair_coeff * * {' '.join(model.species)}"]
    return lines + (far.commands() if far else [])


def description(model: Model, library: bytes, far: Charged | None = None) -> str:
    """The text of potential.txt: what the library is, closed by a hash of all lines."""
    text = "\n".join(
        [
            f"composer potential {SCHEMA}",
            f"library {LIBRARY}",
            f"sha256 {hashlib.sha256(library).hexdigest()}",
            f"species {' '.join(model.species)}",
            f"cutoff {model.cutoff!r}",
            f"cpu {' '.join(features())}",
            *([f"gewald {far.gewald:.17g}", f"charges {' '.join(f'{q:.17g}' for q in far.charges)}"] if far else []),
            "",
        ]
    )
    return text + f"end {hashlib.sha256(text.encode()).hexdigest()}\n"


def features() -> list[str]:
    """The instruction sets that the compiler uses for this processor, by the names that the system gives them."""
    compiler = find_compiler()
    flags = [flag for flag in compile_flags(compiler, openmp=False) if flag.startswith("-m")]
    said = subprocess.run(
        [*compiler.command, *flags, "-dM", "-E", "-x", "c", "/dev/null"], capture_output=True, text=True, check=False
    ).stdout
    used = {name.lower().replace("_", "") for name in re.findall(r"#define __(\w+?)__ 1$", said, re.MULTILINE)}
    known = [name for name in cpu_features().split() if re.match(ARITHMETIC, name)]
    return sorted({name for name in known if name.replace("_", "") in used})
