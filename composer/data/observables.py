"""From `ase.Atoms` to a checked frame: where energy, forces and stress are kept, in which unit, with which sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.data.frame import Frame, check_finite
from composer.errors import DataError, UnitError
from composer.units import convert

if TYPE_CHECKING:
    from ase import Atoms

USUAL = {  # names in the order of preference; forces and stress are derivatives of the free energy, so it comes first
    "energy": ("free_energy", "energy", "REF_energy", "dft_energy", "DFT_energy", "Energy", "total_energy"),
    "forces": ("forces", "force", "REF_forces", "dft_forces", "DFT_forces", "dft_force"),
    "stress": ("stress", "REF_stress", "dft_stress", "DFT_stress"),
    "virial": ("virial", "virials", "REF_virial", "REF_virials", "dft_virial", "DFT_virial"),
}
UNITS = {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å^3", "virial": "eV", "length": "Å"}
VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # place of each component in xx, yy, zz, yz, xz, xy
AGREE = 1e-3  # relative difference of a stress and a virial that is still rounding
FLOOR = 1e-4  # eV/atom, the same for small virials


@dataclass(frozen=True)
class Keys:
    """Where the observables are. Arguments: energy, forces, stress, virial (a key, or None where there is none)."""

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None


def find_keys(atoms: Sequence[Atoms], asked: Keys) -> Keys:
    """Choose one key for each observable: the one asked for, else the usual name that most frames have.

    Arguments: atoms, asked (None means unknown). Returns: Keys. Errors: DataError for a key that no frame has.
    """
    chosen: dict[str, str | None] = {}
    for observable, key in asdict(asked).items():
        names = _spellings(atoms, USUAL[observable]) if key is None else [key]
        counts = [sum(_look(one, name) is not None for one in atoms) for name in names]
        if key is not None and not counts[0]:
            raise DataError(
                f"{observable}_key={key!r} was asked for",
                "No frame has it in its calculator, info or arrays",
                "Look at the keys with ase.io.read(...).info and .arrays",
            )
        chosen[observable] = names[int(np.argmax(counts))] if max(counts) else None
    return Keys(**chosen)


def frame(atoms: Atoms, index: int, source: str, keys: Keys, units: Mapping[str, str]) -> Frame:
    """Make a checked frame.

    Equation: stress = -virial / V where only a virial is given. Arguments: atoms, index, source (file), keys, units (as in read_data).
    Returns: Frame. Errors: DataError, UnitError, naming the frame.
    """
    name = f"frame {index}" + (f" of {source}" if source else "")
    if unknown := set(units) - set(UNITS):
        raise UnitError(f"A unit of {', '.join(sorted(unknown))} was given", "No such quantity is read", f"Use {', '.join(UNITS)}")
    if 0 in atoms.numbers:
        raise DataError(f"The species of {name} were asked for", "An atom has the symbol X", "Write a chemical symbol for every atom")
    check_finite("cell", np.array(atoms.cell), name)
    got = {observable: _value(atoms, observable, key, name, units) for observable, key in asdict(keys).items()}
    length = convert(1.0, str(units.get("length", "Å")), "Å")
    used = {"config_type", *(key for key in asdict(keys).values() if key)}
    return Frame(
        symbols=tuple(atoms.get_chemical_symbols()),
        positions=atoms.positions * length,
        cell=np.array(atoms.cell) * length,
        pbc=np.array(atoms.pbc),
        energy=None if got["energy"] is None else float(got["energy"]),
        forces=got["forces"],
        stress=_stress(name, atoms, length, got["stress"], got["virial"]),
        config_type=str(atoms.info.get("config_type", atoms.info.get("Config_type", "unknown"))),
        info={key: value for key, value in atoms.info.items() if key not in used},
        index=index,
        source=source,
    )


def _look(atoms: Atoms, key: str) -> Any:
    for place in (atoms.calc.results if atoms.calc else {}, atoms.info, atoms.arrays):
        if place.get(key) is not None:
            return place[key]
    return None


def _spellings(atoms: Sequence[Atoms], names: Sequence[str]) -> list[str]:
    """The usual names as they are spelled in the data: keys in any case mean the same, the usual spelling comes first."""
    present = dict.fromkeys(k for one in atoms for place in (one.calc.results if one.calc else {}, one.info, one.arrays) for k in place)
    return [s for name in names for s in (name, *(k for k in present if k.lower() == name.lower() and k not in names))]


def _value(atoms: Atoms, observable: str, key: str | None, name: str, units: Mapping[str, str]) -> np.ndarray | None:
    found = None if key is None else _look(atoms, key)
    if found is None:
        return None
    try:
        value = np.asarray(found, float)
    except (TypeError, ValueError) as error:
        raise DataError(f"The {observable} of {name} was asked for", f"{key!r} holds {found!r}", "Write numbers") from error
    check_finite(observable, value, name)
    unit = str(units.get(observable, UNITS[observable]))
    value = convert(value, unit.lstrip("-"), UNITS[observable]) * (-1.0 if unit.startswith("-") else 1.0)
    if observable in ("stress", "virial"):
        return _matrix(value, observable, name)
    if observable == "energy" and value.size != 1:
        raise DataError(f"The energy of {name} was asked for", f"{key!r} holds {value.size} numbers", "Name the total energy: energy_key=")
    return value.reshape(()) if observable == "energy" else value


def _matrix(value: np.ndarray, observable: str, name: str) -> np.ndarray:
    """Spread six components (ASE's Voigt order) or nine to a symmetric matrix [3,3]."""
    full = value.ravel()[VOIGT] if value.size == 6 else value.reshape(3, 3) if value.size == 9 else None
    if full is None:
        raise DataError(f"The {observable} of {name} was asked for", f"It has {value.size} components", "Write 6 (Voigt) or 9 (rows)")
    if np.abs(full - full.T).max() > AGREE * np.abs(full).max() + 1e-6:
        raise DataError(
            f"A symmetric {observable} was asked from {name}",
            f"It is {full.round(6).tolist()}",
            "Write the 3 x 3 matrix in rows, or six components xx yy zz yz xz xy",
        )
    return 0.5 * (full + full.T)


def _stress(name: str, atoms: Atoms, length: float, stress: np.ndarray | None, virial: np.ndarray | None) -> np.ndarray | None:
    """Settle stress and virial; a structure without a volume has none, whatever its file says."""
    volume = abs(float(np.linalg.det(np.array(atoms.cell)))) * length**3
    if not atoms.pbc.all() or volume == 0.0:
        return None
    if stress is None or virial is None:
        return stress if virial is None else -virial / volume
    other = -volume * stress  # the virial that the stress stands for, eV
    if np.abs(other - virial).max() > AGREE * np.abs(virial).max() + FLOOR * len(atoms):
        ratio = float((virial * other).sum() / max((other * other).sum(), 1e-300))
        raise DataError(
            f"Stress and virial of {name} should agree (virial = -V * stress)",
            f"The virial is {ratio:.4g} times what the stress says" + (" (opposite signs)" if ratio < 0 else ""),
            "Correct one of them, give its unit with units={'stress': 'kbar'} ('-kbar' for a pressure), or remove it",
        )
    return stress
