"""The input nep.in of GPUMD's trainer as an expression and the weights of a fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from composer.algebra import Expression
from composer.errors import DataError
from composer.export.nep import expression
from composer.export.nepfile import FLAGS, NepFile, Network
from composer.fit.weights import Weights

Words = dict[str, list[str]]
DEFAULTS = "version 4, cutoff 8 4, n_max 6 6, basis_size 6 6, l_max 4 1, neuron 30, lambda_e 1, lambda_f 1, lambda_v 0.1"
PINNED = ("n_max", "basis_size")  # defaults changed in 2026: 4 4 and 8 8 before
MODEL = ("type", *(d.split()[0] for d in DEFAULTS.split(", ")), "zbl", "use_typewise_cutoff_zbl")
# keys that may have one value alone, or none
OTHER = {"model_type": "0", "prediction": "0", "charge_mode": "0", "vdw": "0", "charge_vdw": "0", "fine_tune": "", "import_q_scaler": ""}
LEFT = (
    "generation population batch lambda_1 lambda_2 lambda_shear lambda_q lambda_z initial_para sigma0 force_delta type_weight output_interval "
    "output_descriptor save_potential"
).split()  # what evolution strategies and their output ask for


@dataclass(frozen=True)
class NepIn:
    """What a nep.in says: the expression, its species, weights in the proportion lambda_e : lambda_f : lambda_v, and what was left out or taken."""

    expression: Expression
    species: tuple[str, ...]
    weights: Weights
    said: str


def read_nep_in(path: str | Path) -> NepIn:
    """Read the keys of a nep.in, and with `zbl` the numbers of each pair from a zbl.in beside it, if there is one.

    The architecture becomes NEP, or ZBL + NEP; lambda_e, lambda_f and lambda_v the weights of mean squares (those of GPUMD are of their roots).
    Keys of evolution strategies are left out, and said. Errors: DataError for a file that cannot be read, a key that is unknown or given
    twice, one that asks for another kind of model, or wrong numbers.
    """
    path = Path(path)
    words = _words(path)
    fixed = {key: given for key, given in words.items() if key in OTHER and given != [OTHER[key]]}
    for key, given in fixed.items():
        advice = "Train energies, forces and virials of a new model; one of a file is read by composer.read_model and fitted further"
        raise _refusal(path, f"{key} {' '.join(given)} asks for something else than a new model of energies", advice)
    known: Words = {d.split()[0]: list(d.split()[1:]) for d in DEFAULTS.split(", ")}
    known |= words
    file = _file(path, known)
    weights = [_numbers(path, known, f"lambda_{x}", (1,), float)[0] for x in "efv"]
    if min(weights) < 0 or max(weights) == 0:
        raise _refusal(path, "lambda_e, lambda_f and lambda_v are below zero, or all zero", "Give weights above zero")
    energy, forces, virial = (1 / math.sqrt(w) if w else None for w in weights)
    left = [f"{key} {' '.join(words[key])}" for key in LEFT if key in words]
    taken = [f"{key} {' '.join(known[key])}" for key in PINNED if key not in words]
    said = [f"left out, for there are no generations here: {', '.join(left)}"] * bool(left)
    if file.version < 5 and len(file.species) > 1:
        said.append(
            f"version {file.version}: a nep.txt has one reference energy for all species, and a fit one for each; version 5 writes them"
        )
    said += [f"not given, taken as in GPUMD since 2026: {', '.join(taken)}"] * bool(taken)
    return NepIn(expression(file), file.species, Weights(energy, forces, virial), "\n".join(f"{path.name}: {line}" for line in said))


def _words(path: Path) -> Words:
    try:
        lines = [line.partition("#")[0].split() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise _refusal(path, f"It cannot be: {error}", "Give the path of a nep.in file") from None
    found: Words = {}
    for number, (key, *given) in ((n, line) for n, line in enumerate(lines, 1) if line):
        if key not in (*MODEL, *OTHER, *LEFT):
            raise _refusal(path, f"Line {number} has the unknown key {key!r}", f"Known are {', '.join((*MODEL, *OTHER, *LEFT))}")
        if key in found:
            raise _refusal(path, f"Line {number} gives {key} a second time", "Give it once")
        found[key] = given
    return found


def _file(path: Path, words: Words) -> NepFile:
    """The header that a file of the model will have; no numbers yet."""
    if not words.get("type"):
        raise _refusal(path, "It has no line `type`", "Write e.g. type 2 Te Pb")
    count, *species = words["type"]
    if count != str(len(species)) or len(set(species)) != len(species) or not species:
        raise _refusal(
            path, f"type {' '.join(words['type'])} announces {count} species and names {len(species)}", "Write e.g. type 2 Te Pb"
        )
    lengths = _numbers(path, words, "cutoff", (2, 2 * len(species)), float)
    (radials, angulars), (radial, angular) = (_numbers(path, words, key, (2,)) for key in PINNED)
    l_max, (neurons,) = _numbers(path, words, "l_max", tuple(range(1, 2 + FLAGS))), _numbers(path, words, "neuron", (1,))
    (version,), nothing = _numbers(path, words, "version", (1,)), np.zeros(0)
    return NepFile(
        version, "", tuple(species), list(zip(lengths[::2], lengths[1::2])), (0, 0), (radials, angulars), (radial, angular), tuple(l_max), neurons,
        Network(nothing, nothing, nothing, nothing), nothing, nothing, nothing, *_repulsion(path, words, len(species)),
    )  # fmt: skip


def _repulsion(path: Path, words: Words, species: int) -> tuple[tuple[float, ...], np.ndarray]:
    """Numbers of the line zbl, inner and outer and the factor of covalent radii, and those of each pair [pairs, 10] in place of them."""
    pairs = np.zeros((0, 10))
    if "zbl" not in words:
        return (), pairs
    (outer,) = _numbers(path, words, "zbl", (1,), float)
    table = path.with_name("zbl.in")
    if table.exists():
        return (0.0, 0.0), _pairs(table, species * (species + 1) // 2)
    if "use_typewise_cutoff_zbl" not in words:
        return (outer / 2, outer), pairs
    factor = _numbers(path, words, "use_typewise_cutoff_zbl", (0, 1), float)
    return (0.0, outer, *(factor or [0.7])), pairs


def _pairs(path: Path, count: int) -> np.ndarray:
    """Inner, outer and four pairs (c, d) for each pair of species, in the order 1-1, 1-2, ..., 2-2, ..."""
    try:
        numbers = np.array([w for line in path.read_text().splitlines() for w in line.partition("#")[0].split()], dtype=float)
    except (OSError, ValueError) as error:
        raise _refusal(path, f"It cannot be: {error}", "Write ten numbers for each pair of species") from None
    if len(numbers) != 10 * count:
        raise _refusal(path, f"It holds {len(numbers)} numbers", f"Write ten for each of the {count} pairs of species, {10 * count} in all")
    rows = numbers.reshape(count, 10)
    for row in rows:
        if not np.isfinite(row).all() or not 0 <= row[0] < row[1]:
            raise _refusal(
                path, f"A pair has the numbers {' '.join(f'{x:g}' for x in row)}", "Write 0 <= inner < outer (Å) and four pairs (c, d)"
            )
    return rows


def _numbers(path: Path, words: Words, key: str, counts: tuple[int, ...], kind: type = int) -> list[Any]:
    try:
        found = [kind(w) for w in words[key]]
    except ValueError:
        found = []
        counts = ()
    if len(found) not in counts or not np.isfinite(found).all():
        raise _refusal(path, f"{key} {' '.join(words[key])} is not understood", f"Give {key} its numbers, as GPUMD's manual says")
    return found


def _refusal(path: Path, found: str, advice: str) -> DataError:
    return DataError(f"The input {path} was to be read", found, advice)


__all__ = ["NepIn", "read_nep_in"]
