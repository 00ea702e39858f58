"""Reading data: any files that ASE reads, plain or compressed, and `ase.Atoms`; every unit and sign is settled here."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from composer import datasets
from composer.data.data import Data
from composer.data.frame import Frame
from composer.data.observables import Keys, find_keys, frame
from composer.data.summary import summary
from composer.errors import DataError, UnitError

if TYPE_CHECKING:
    from ase import Atoms

SHOWN = 5  # broken frames that are told of
OPENERS = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}


class BrokenFrames(UserWarning):
    """Frames that cannot be used were left out, because `skip_broken=True` was asked for."""


def read_data(
    source: str | Path | Atoms | Sequence[str | Path | Atoms],
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    virial_key: str | None = None,
    species: Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    unlabelled: bool = False,
    quiet: bool = False,
    skip_broken: bool = False,
) -> Data:
    """Read structures with energies, forces and stresses, check every one, and say what was found.

    Equations: forces = -dE/dx; stress = dE/dstrain / V, positive under tension; a virial is -V * stress.
    Arguments: source (a path, the name of a shipped set, `ase.Atoms`, or a list of these), keys (where the observables are, if not
    under a usual name), species (symbols that may occur, in the order of the model), units (of "energy", "forces", "stress",
    "virial" and "length" if not eV, eV/Å, eV/Å^3, eV, Å; "-kbar" turns a pressure into a stress), unlabelled (True allows data without
    any energy), quiet (print nothing), skip_broken (True leaves out frames that cannot be used, and says how many and why, also if quiet).
    Returns: Data in eV, Å; what is missing in a frame is None.
    Errors: DataError for files that are missing, empty, cut or foreign and for unusable frames, which it names; UnitError.
    """
    if units is not None and not isinstance(units, Mapping):
        raise UnitError(f"Data with units={units!r} were asked for", "It is no dict", 'Write units={"energy": "eV", "forces": "eV/Å"}')
    parts = cast("Sequence[str | Path | Atoms]", [source] if _is_one(source) or not isinstance(source, Iterable) else source)
    found = [item for place, part in enumerate(parts) for item in _open(part, place)]
    if not found:
        raise DataError("Data were asked for", "The list of sources is empty", "Write read_data('silicon.xyz.xz') or give ase.Atoms")
    atoms = [one for one, _, _ in found]
    keys = find_keys(atoms, Keys(energy_key, forces_key, stress_key, virial_key))
    if keys.energy is None and not unlabelled:
        raise DataError(
            f"Energies were asked from {found[0][2] or 'the structures'}",
            f"No frame has any; the keys are {', '.join(_all_keys(atoms)) or 'none'}",
            "Name one with energy_key='...', or write unlabelled=True to read structures alone",
        )
    data = Data(_usable(found, keys, units or {}, skip_broken), species)
    if not quiet:
        print(summary(data, keys, atoms))
    return data


def _usable(found: Sequence[tuple[Atoms, int, str]], keys: Keys, units: Mapping[str, str], skip_broken: bool) -> list[Frame]:
    """The frames; one that cannot be used is an error, or left out with a word."""
    frames, broken = [], list[DataError]()
    for one, place, name in found:
        try:
            frames.append(frame(one, place, name, keys, units))
        except DataError as error:
            if not skip_broken:
                advice = (
                    f"{error.type_this.rstrip('.')}; or leave out all such frames with skip_broken=True"
                    if len(found) > 1
                    else error.type_this
                )
                raise DataError(error.asked, error.found, advice) from None
            broken.append(error)
    if not frames:
        raise broken[0]
    if broken:
        named = "\n".join(f"  {error.asked}: {error.found}" for error in broken[:SHOWN]) + ("\n  ..." if len(broken) > SHOWN else "")
        warnings.warn(f"{len(broken)} of {len(found)} frames cannot be used and are left out:\n{named}", BrokenFrames, stacklevel=3)
    return frames


def _is_one(source: object) -> bool:
    from ase import Atoms

    return isinstance(source, (str, Path, Atoms))


def _open(part: str | Path | Atoms, at: int) -> Iterator[tuple[Atoms, int, str]]:
    """Yield (structure, place in its file, or in the list, name of the file)."""
    if not _is_one(part):
        found = f"A {type(part).__name__} was given"
        raise DataError("Structures were asked for", found, "Give paths, names of shipped sets or ase.Atoms")
    if not isinstance(part, (str, Path)):
        yield part, at, ""
        return
    path = _locate(Path(part))
    suffixes = [suffix.lower() for suffix in path.suffixes]
    place = -1
    for place, atoms in enumerate(_read_xyz(path) if {".xyz", ".extxyz"} & set(suffixes[-2:]) else _read_any(path)):
        yield atoms, place, path.name
    if place < 0:
        raise DataError(f"Structures were asked from {path.name}", "The file is empty", "Check the path, or write the file again")


def _locate(path: Path) -> Path:
    if path.is_file():
        return path
    shipped = datasets.find(str(path))
    if shipped is None:
        raise DataError(
            f"The file {path} was asked for",
            "It is a folder" if path.is_dir() else "It does not exist, and no shipped set has this name",
            f"Check the path, or use a shipped set: {', '.join(datasets.names())}",
        )
    return shipped


def _read_xyz(path: Path) -> Iterator[Atoms]:
    from ase.io import read

    for place, text in enumerate(_frames(_text(path), path.name)):
        try:
            atoms = read(io.StringIO(text), index=0, format="extxyz")
        except Exception as error:  # ASE raises many kinds; all mean that this frame cannot be read
            raise _unreadable(f"frame {place} of {path.name}", error) from error
        yield atoms  # type: ignore[misc]


def _read_any(path: Path) -> Iterator[Atoms]:
    from ase.io import read

    try:
        yield from read(path, index=":")  # type: ignore[misc]
    except Exception as error:  # as above
        raise _unreadable(path.name, error) from error


def _text(path: Path) -> str:
    try:
        with OPENERS.get(path.suffix.lower(), open)(path, "rb") as stream:
            return stream.read().decode()
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path.name, error) from error


def _frames(text: str, name: str) -> Iterator[str]:
    """Yield the text of every frame of an xyz file; a frame that is cut is an error that names it."""
    lines = text.splitlines(keepends=True)
    at = place = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        if not lines[at].strip().isdecimal():
            found = f"Line {at + 1} is {lines[at].strip()[:40]!r} where a number of atoms should be"
            raise DataError(f"Frame {place} of {name} was asked for", found, "Check that the file is (extended) xyz and not cut")
        end = at + 2 + int(lines[at])
        if end > len(lines) or (end == len(lines) and _is_cut(lines[-1])):
            found = f"The file ends inside it, at line {len(lines)}"
            raise DataError(f"Frame {place} of {name} was asked for", found, "The file was cut: copy it again, or remove the frame")
        yield "".join([lines[at], *(_spelled(line) for line in lines[at + 1 : at + 2]), *lines[at + 2 : end]])
        at, place = end, place + 1


def _spelled(header: str) -> str:
    """The keys of extended xyz as ASE spells them: `lattice=` and `PROPERTIES=` mean the same."""
    for key in ("Lattice", "Properties", "pbc"):
        header = re.sub(rf"(^|\s){key}\s*=", rf"\g<1>{key}=", header, flags=re.IGNORECASE)
    return header


def _is_cut(line: str) -> bool:
    """Whether a last line of fixed format stops in the middle of its last number."""
    decimals = [len(word.partition(".")[2]) for word in line.split()[1:]]
    fixed = len(set(decimals[:-1])) == 1 and decimals[0] >= 4
    return not line.endswith("\n") and fixed and decimals[-1] < decimals[0]


def _unreadable(what: str, error: Exception) -> DataError:
    found = f"Reading failed with {type(error).__name__}: {str(error)[:200]}"
    return DataError(f"Structures were asked from {what}", found, "The file is cut, damaged or of another format: write it again")


def _all_keys(atoms: Sequence[Atoms]) -> list[str]:
    names = {key for one in atoms for key in (*one.info, *one.arrays, *(one.calc.results if one.calc else {}))}
    return sorted(names - {"numbers", "positions", "config_type"})
