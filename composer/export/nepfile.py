"""The text format nep.txt of GPUMD: header, counts and numbers, checked line by line. Arrays in, arrays out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from composer.errors import DataError

Array = NDArray[np.float64]
TAG = re.compile(r"nep([345])(_zbl)?(_charge([123])|_dipole|_polarizability|_temperature|_vdw|_charge_vdw)?")
KEYS = ("cutoff", "n_max", "basis_size", "l_max", "ANN")
HOLDS = {
    "": "energies",
    "charge1": "energies, and charges with close pairs, waves and self energy",
    "charge2": "energies, and charges with waves alone",
    "dipole": "dipole moments, no energies",
    "polarizability": "polarizabilities, no energies",
}
FLAGS = 6  # invariants of three and four moments that l_max may ask for


@dataclass
class Network:
    """One hidden layer for each species: U = w tanh(W q - b) - c - b1, charge Q = v tanh(W q - b)."""

    weights: Array  # [networks, neurons, size]
    bias: Array  # [networks, neurons]
    output: Array  # [networks, heads, neurons]
    constant: Array  # [networks], version 5 alone
    common: float = 0.0  # b1


@dataclass
class NepFile:
    """What a file says; lengths in Å, energies in eV. Arrays in the order of the file."""

    version: int
    kind: str  # "", charge1, charge2, charge3, dipole or polarizability
    species: tuple[str, ...]
    cutoffs: list[tuple[float, float]]  # radial and angular, one entry for all species or one for each
    neighbors: tuple[int, int]  # largest counts met in training
    n_max: tuple[int, int]
    basis: tuple[int, int]
    l_max: tuple[int, ...]
    neurons: int
    network: Network
    radial: Array  # [n, k, species of the site, species of the neighbour]
    angular: Array
    scaler: Array  # [size]
    zbl: tuple[float, ...] = ()  # numbers of its line
    zbl_pairs: Array = field(default_factory=lambda: np.zeros((0, 10)))  # upper triangle of pairs
    second: Network | None = None  # scalar part of a polarizability
    dielectric: float | None = None  # square root of eps_inf of charge models

    @property
    def size(self) -> int:
        """Number of descriptors."""
        return size(self.n_max, self.l_max)

    @property
    def heads(self) -> int:
        return 2 if self.kind.startswith("charge") else 1

    @property
    def networks(self) -> int:
        return 1 if self.version == 3 else len(self.species)

    @property
    def tag(self) -> str:
        return f"nep{self.version}{'_zbl' if self.zbl else ''}{'_' + self.kind if self.kind else ''}"


def size(n_max: tuple[int, int], l_max: tuple[int, ...]) -> int:
    """Number of descriptors."""
    return n_max[0] + 1 + (n_max[1] + 1) * (l_max[0] + sum(bool(f) for f in l_max[1:]))


def parse(path: str | Path) -> NepFile:
    """The contents of a nep.txt file.

    Errors: DataError for a file that is missing, of an old or unknown kind, with a wrong header, or with a wrong count of numbers.
    """
    return _Reader(Path(path)).file()


class _Reader:
    """Header lines first, then one number a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            lines = [line.split() for line in path.read_text().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"The NEP file {path} was to be read", f"It cannot be: {error}", "Give the path of a nep.txt file") from None
        self.lines = [line for line in lines if line]
        self.place = 0
        self.used = 0

    def refuse(self, found: str, advice: str = "Give a nep.txt file of GPUMD 3.0 or newer, as it was written") -> DataError:
        return DataError(f"The NEP file {self.path} was to be read", found, advice)

    def header(self, key: str) -> list[str]:
        line = self.lines[self.place] if self.place < len(self.lines) else []
        if not line or line[0] != key:
            raise self.refuse(f"Line {self.place + 1} should start with {key!r} and reads {' '.join(line)[:60]!r}")
        self.place += 1
        return line[1:]

    def numbers(self, key: str, counts: tuple[int, ...], kind: type = int) -> list:
        given = self.header(key)
        try:
            values = [kind(x) for x in given]
        except ValueError:
            raise self.refuse(f"The line {key!r} holds {' '.join(given)!r}, which are not numbers") from None
        if len(values) not in counts or not np.isfinite(values).all():
            raise self.refuse(f"The line {key!r} holds {len(values)} numbers; expected {' or '.join(map(str, counts))}")
        return values

    def file(self) -> NepFile:
        version, zbl, kind, species = self.first_line()
        forms = self.numbers("zbl", (2, 3), float) if zbl else []
        cutoffs, neighbors = self.cutoffs(len(species))
        n_max, basis = (tuple(self.numbers(key, (2,))) for key in ("n_max", "basis_size"))
        l_max = self.numbers("l_max", tuple(range(1, 2 + FLAGS)))
        neurons, second_layer = self.numbers("ANN", (2,))
        if second_layer:
            raise self.refuse(f"It has two hidden layers ({neurons} and {second_layer} neurons)", "Train it with one hidden layer")
        if min(*n_max, *basis, *l_max) < 0 or neurons < 1 or min(min(c) for c in cutoffs) <= 0:
            raise self.refuse("Its header holds negative counts, no neuron, or a cutoff that is not above zero")
        nothing = np.zeros(0)
        found = NepFile(
            version, kind, species, cutoffs, neighbors, n_max, basis, tuple(l_max), neurons, Network(nothing, nothing, nothing, nothing),
            nothing, nothing, nothing, tuple(forms),
        )  # fmt: skip
        self.fill(found, self.values())
        return found

    def first_line(self) -> tuple[int, bool, str, tuple[str, ...]]:
        line = self.lines[0] if self.lines else [""]
        match = TAG.fullmatch(line[0])
        if line[0] in ("nep", "nep2", "nep_zbl", "nep2_zbl"):
            found = f"Its tag is {line[0]!r}, a format of before 2022 that says nothing of its basis; expected nep3, nep4 or nep5"
            raise self.refuse(found, "Train it again with a newer GPUMD")
        if match is None:
            raise self.refuse(f"Its tag is {line[0][:40]!r}; expected nep3, nep4 or nep5, perhaps with _zbl, _charge1 and so on")
        if match[3] and ("vdw" in match[3] or "temperature" in match[3]):
            raise self.refuse(f"Its tag is {line[0]!r}, a model with dispersion or temperature", "Give a model without them")
        species = tuple(line[2:])
        if len(line) < 3 or not line[1].isdigit() or int(line[1]) != len(species) or len(set(species)) != len(species):
            raise self.refuse(f"Its first line {' '.join(line)[:60]!r} announces {line[1:2]} species and names {len(species)}")
        self.place = 1
        return int(match[1]), bool(match[2]), (match[3] or "").removeprefix("_"), species

    def cutoffs(self, species: int) -> tuple[list[tuple[float, float]], tuple[int, int]]:
        values = self.numbers("cutoff", (4, 2 * species + 2), float)
        lengths = values[:-2]
        return list(zip(lengths[::2], lengths[1::2])), (int(values[-2]), int(values[-1]))

    def values(self) -> Array:
        """All numbers after the header."""
        rest = self.lines[self.place :]
        wrong = next((n for n, line in enumerate(rest) if len(line) != 1), None)
        try:
            values = np.array([float(line[0]) for line in rest])
        except ValueError:
            wrong, values = next(n for n, line in enumerate(rest) if not _is_number(line[0])), np.zeros(0)
        if wrong is not None or not np.isfinite(values).all():
            place = self.place + (wrong if wrong is not None else int(np.flatnonzero(~np.isfinite(values))[0])) + 1
            raise self.refuse(f"Line {place} should hold one number and reads {' '.join(self.lines[place - 1])[:60]!r}")
        return values

    def fill(self, f: NepFile, values: Array) -> None:
        expected = count(f)
        if len(values) != expected:
            raise self.refuse(
                f"Its header asks for {expected} numbers ({_words(f)}); found {len(values)}",
                "Copy the file again; files of builds whose c depends on the neighbour alone (USE_CJ) are not known",
            )
        f.network = self.network(f, values, f.heads)
        if f.heads == 2:
            f.dielectric = float(self.take(values, 1)[0])
        f.network.common = float(self.take(values, 1)[0])
        if f.kind == "polarizability":
            f.second = self.network(f, values, 1)
            f.second.common = float(self.take(values, 1)[0])
        s = len(f.species)
        f.radial = self.take(values, f.n_max[0] + 1, f.basis[0] + 1, s, s)
        f.angular = self.take(values, f.n_max[1] + 1, f.basis[1] + 1, s, s)
        f.scaler = self.take(values, f.size)
        f.zbl_pairs = self.take(values, s * (s + 1) // 2, 10) if flexible(f) else np.zeros((0, 10))

    def take(self, values: Array, *shape: int) -> Array:
        length = int(np.prod(shape))
        self.used += length
        return values[self.used - length : self.used].reshape(shape)

    def network(self, f: NepFile, values: Array, heads: int) -> Network:
        weights, bias, output, constant = [], [], [], []
        for _ in range(f.networks):
            weights.append(self.take(values, f.neurons, f.size))
            bias.append(self.take(values, f.neurons))
            output.append(self.take(values, heads, f.neurons))
            constant.append(self.take(values, 1)[0] if f.version == 5 else 0.0)
        return Network(np.array(weights), np.array(bias), np.array(output), np.array(constant))


def flexible(f: NepFile) -> bool:
    """Whether the repulsion has numbers of its own for each pair."""
    return f.zbl[:2] == (0.0, 0.0) and len(f.zbl) == 2


def count(f: NepFile) -> int:
    """How many numbers the header asks for."""
    s = len(f.species)
    network = f.networks * ((f.size + 1 + f.heads) * f.neurons + (f.version == 5)) + 1
    tables = s * s * sum((n + 1) * (k + 1) for n, k in zip(f.n_max, f.basis))
    blocks = 2 if f.kind == "polarizability" else 1
    return blocks * network + (f.heads == 2) + tables + f.size + (5 * s * (s + 1) if flexible(f) else 0)


def _words(f: NepFile) -> str:
    return f"{f.tag}, {len(f.species)} species, {f.size} descriptors, {f.neurons} neurons"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def said(f: NepFile) -> str:
    """What a file holds, in words."""
    constants = "one constant for each species" if f.version == 5 else "one constant for all species"
    return f"{f.tag} of {', '.join(f.species)}: {HOLDS[f.kind]}; {count(f)} numbers with 8 digits, {constants}"


def text(f: NepFile) -> str:
    """The file as text; numbers as %15.7e."""
    lines = [f"{f.tag} {len(f.species)} {' '.join(f.species)}"]
    lines += ["zbl " + " ".join(f"{x:g}" for x in f.zbl)] if f.zbl else []
    lines.append("cutoff " + " ".join(f"{x:g}" for pair in f.cutoffs for x in pair) + f" {f.neighbors[0]} {f.neighbors[1]}")
    lines += [f"n_max {f.n_max[0]} {f.n_max[1]}", f"basis_size {f.basis[0]} {f.basis[1]}"]
    lines += ["l_max " + " ".join(map(str, f.l_max)), f"ANN {f.neurons} 0"]
    values = [*_network_values(f, f.network, [] if f.dielectric is None else [f.dielectric])]
    values += _network_values(f, f.second, []) if f.second is not None else []
    values += [x for a in (f.radial, f.angular, f.scaler, f.zbl_pairs) for x in a.ravel()]
    return "\n".join([*lines, *(f"{x:15.7e}" for x in values)]) + "\n"


def _network_values(f: NepFile, network: Network, before_common: list[float]) -> list[float]:
    values: list[float] = []
    for n in range(f.networks):
        values += [*network.weights[n].ravel(), *network.bias[n], *network.output[n].ravel()]
        values += [network.constant[n]] if f.version == 5 else []
    return [*values, *before_common, network.common]


__all__ = ["KEYS", "NepFile", "Network", "count", "flexible", "parse", "said", "size", "text"]
