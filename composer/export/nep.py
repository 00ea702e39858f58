"""Models from nep.txt files of GPUMD, and back."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer.algebra import REGISTRY, Expression, Sum, Term
from composer.algebra.reading import from_data
from composer.errors import AlgebraError, DataError
from composer.export.nepfile import NepFile, Network, flexible, parse
from composer.model import E0, Model

Array = NDArray[np.float64]
DENSEST = 0.18  # atoms per Å^3 (diamond), from which neighbours are counted where no data were
MOST = (819, 819)  # neighbours that GPUMD accepts in a header
EQUAL = 1e-7  # eV: reference energies that may stand in a file as one number


def read_nep(path: str | Path) -> Model:
    """The model of a nep.txt file: NEP, or ZBL + NEP, with E0 the energy of an isolated atom.

    Arguments: path of a file with the tag nep3, nep4 or nep5, perhaps with _zbl. Returns: a Model with the numbers of the file.
    Errors: DataError for a file that cannot be read, or is no energy model.
    Source: theory of the format at https://gpumd.org.
    """
    found = parse(path)
    if found.kind:
        advice = "Use composer.read_model(path), which gives a model of charges, dipoles or polarizabilities"
        raise DataError(f"A plain energy model was to be read from {path}", f"Its tag is {found.tag}", advice)
    return model_of(found)


def model_of(f: NepFile, network: Network | None = None) -> Model:
    """The model of a file's energy, or of another network of it."""
    f = f if network is None else replace(f, network=network)
    model = Model(expression(f), f.species)
    model = model.with_parameters(numbers(f, label(model)))
    model.provenance = {"nep": {"tag": f.tag, "neighbors": list(f.neighbors)}}
    if f.version == 5:
        model.provenance["nep"]["common"] = f.network.common
    return model


def label(model: Model) -> str:
    """The label of the NEP term among the names of a model's parameters."""
    labels = model.expression.labels()
    return next(labels[t.digest] for t in model.expression.terms() if type(t).__name__ == "NEP")


def nep_fields(f: NepFile) -> dict[str, Any]:
    """Fields of the term that a file describes."""
    fields: dict[str, Any] = {
        "cutoff": list(f.cutoffs[0]), "n_max": list(f.n_max), "basis": list(f.basis), "l_max": list(f.l_max), "neurons": f.neurons,
        "version": f.version,
    }  # fmt: skip
    if f.heads == 2:
        fields["charges"] = True
    if len(set(f.cutoffs)) > 1:
        fields["elements"] = [[s, *pair] for s, pair in zip(f.species, f.cutoffs)]
    return fields


def expression(f: NepFile) -> Expression:
    """NEP or ZBL + NEP with the fields of a file."""
    _known("NEP")
    nep = from_data({"term": "NEP", **nep_fields(f)})
    return nep + zbl(f) if f.zbl else nep


def zbl(f: NepFile) -> Expression:
    """The repulsion of a file: with fixed distances, with a factor of covalent radii, or with numbers for each pair."""
    _known("ZBL")
    if flexible(f):
        pairs = [(a, b) for n, a in enumerate(f.species) for b in f.species[n:]]
        rows = [[a, b, *map(float, row)] for (a, b), row in zip(pairs, f.zbl_pairs)]
        return from_data({"term": "ZBL", "switch": "cosine", "pairs": rows, "inner": None, "outer": None})
    inner, outer, *factor = f.zbl
    least = min(angular for _, angular in f.cutoffs)
    if outer > least:
        raise DataError(
            f"The repulsion of {f.tag} was to be read", f"It reaches {outer} Å, the angular neighbours {least} Å", "Give outer <= cutoff"
        )
    return from_data(
        {"term": "ZBL", "switch": "cosine", "inner": 0.0 if factor else inner, "outer": outer, "factor": factor[0] if factor else None}
    )


def _known(name: str) -> None:
    if name not in REGISTRY:
        raise AlgebraError(f"The term {name} was asked for", "It has not been imported", "Write `import terms` first")


def numbers(f: NepFile, name: str) -> dict[str, Any]:
    """Parameter tables of a model with the term label `name`, from the numbers of a file."""
    s, radials, angulars = len(f.species), f.n_max[0] + 1, f.n_max[1] + 1
    blocks = (f.size - radials) // angulars
    weights = f.network.weights.transpose(0, 2, 1)  # [networks, size, neurons]
    tables: dict[str, Any] = {
        "radial": f.radial.transpose(2, 3, 0, 1),
        "radial_weights": weights[:, :radials],
        "radial_scaler": f.scaler[:radials],
        "bias": f.network.bias,
        "output": f.network.output[:, 0],
    }
    if f.heads == 2:
        tables["charge"] = f.network.output[:, 1]
    if blocks:
        tables["angular"] = f.angular.transpose(2, 3, 0, 1)
        tables["angular_weights"] = weights[:, radials:].reshape(-1, blocks, angulars, f.neurons)
        tables["angular_scaler"] = f.scaler[radials:].reshape(blocks, angulars)
    found = {f"{name}.{key}": np.ascontiguousarray(value) for key, value in tables.items()}
    own = np.broadcast_to(f.network.constant, s) + f.network.common
    return found | {E0: -own + np.broadcast_to(rest(f.network), s)}


def rest(network: Network) -> Array:
    """w tanh(-b), the output of the first head at zero descriptor [networks]."""
    return np.sum(network.output[:, 0] * np.tanh(-network.bias), axis=1)


def contents(model: Model, kind: str = "") -> NepFile:
    """What the file of a model says, which GPUMD, calorine and NEP_CPU read.

    Arguments: model of NEP or ZBL + NEP; kind, the last part of the tag. The largest counts of neighbours are those of the file that the model was
    read from, or an estimate for a dense solid. Errors: AlgebraError for an expression that the format cannot hold, or version 3 or 4
    with reference energies that differ by species.
    """
    nep, repulsion = _parts(model.expression)
    name = label(model)
    tables = {key.removeprefix(f"{name}."): value.numpy() for key, value in model.parameters.items()}
    s, data = len(model.species), nep.data()
    networks = 1 if data["version"] == 3 else s
    shape = (networks, -1, data["neurons"])
    parts = [tables[key].reshape(shape) for key in ("radial_weights", "angular_weights") if key in tables]
    scaler = np.concatenate([tables[key].ravel() for key in ("radial_scaler", "angular_scaler") if key in tables])
    bias, heads = tables["bias"].reshape(networks, -1), ["output", "charge"] if kind.startswith("charge") else ["output"]
    output = np.stack([tables[key].reshape(networks, -1) for key in heads], axis=1)
    network = Network(np.concatenate(parts, axis=1).transpose(0, 2, 1), bias, output, np.zeros(networks))
    _constants(model, network, data["version"])
    lengths = [nep.lengths(model.species, part) for part in (0, 1)]  # type: ignore[attr-defined]
    cutoffs = list(zip(*lengths)) if data.get("elements") else [tuple(data["cutoff"])]
    known = model.provenance.get("nep", {}).get("neighbors")
    found = NepFile(
        data["version"], kind, model.species, cutoffs, tuple(known) if known else _dense(cutoffs),
        tuple(data["n_max"]), tuple(data["basis"]), tuple(data["l_max"]), data["neurons"], network,
        _table(tables, "radial", s, data, 0), _table(tables, "angular", s, data, 1), scaler,
    )  # fmt: skip
    if repulsion is not None:
        found.zbl, found.zbl_pairs = _zbl_line(repulsion, model.species)
    return found


def writable(model: Model) -> None:
    """Errors: AlgebraError where a nep.txt file will not hold the model once its reference energies are fitted."""
    contents(model.with_parameters({E0: np.arange(float(len(model.species)))}))


def _table(tables: dict[str, Array], key: str, species: int, data: dict[str, Any], part: int) -> Array:
    shape = (species, species, data["n_max"][part] + 1, data["basis"][part] + 1)
    return tables[key].reshape(shape).transpose(2, 3, 0, 1) if key in tables else np.zeros((shape[2], shape[3], species, species))


def _parts(expr: Expression) -> tuple[Term, Term | None]:
    """The NEP and the ZBL of an expression that a file can hold."""
    operands = [p for f, p in expr.parts if f == 1.0] if isinstance(expr, Sum) else [expr]
    kinds = sorted(type(p).__name__ for p in operands)
    whole = len(operands) == (len(expr.operands) if isinstance(expr, Sum) else 1)
    neps = [p for p in operands if isinstance(p, Term) and type(p).__name__ == "NEP"]
    others = [p for p in operands if isinstance(p, Term) and type(p).__name__ == "ZBL" and p.data().get("switch") == "cosine"]
    if neps and neps[0].data().get("extra"):
        found = "Its network sees the far field (extra), for which the format has no place"
        raise AlgebraError(f"{expr} was to be written to a nep.txt file", found, "Save it with model.save(path), or leave extra out")
    if not whole or len(neps) != 1 or len(others) != len(operands) - 1 or len(operands) > 2:
        raise AlgebraError(
            f"{expr} was to be written to a nep.txt file",
            f"Such a file holds one NEP and perhaps one ZBL(switch='cosine'), here are {', '.join(kinds)}",
            "Export it to another target, or save it with model.save(path)",
        )
    return neps[0], others[0] if others else None


def _constants(model: Model, network: Network, version: int) -> None:
    """Share E0 among the bias of all species and, in version 5, of each."""
    own = -(model.parameters[E0].numpy() - np.broadcast_to(rest(network), len(model.species)))
    if version == 5:
        network.common, network.constant = 0.0, own
        known = model.provenance.get("nep", {}).get("common")
        if known is not None:
            network.common, network.constant = known, own - known
        return
    if np.ptp(own) > EQUAL:
        raise AlgebraError(
            f"A NEP of version {version} was to be written",
            "The file holds one reference energy for all species, and the model one for each",
            "Write NEP(..., version=5), whose file holds one for each",
        )
    network.common = float(own.mean())


def _dense(cutoffs: list[tuple[float, float]]) -> tuple[int, int]:
    return tuple(min(math.ceil(4 / 3 * math.pi * max(c[p] for c in cutoffs) ** 3 * DENSEST), MOST[p]) for p in (0, 1))  # type: ignore[return-value]


def _zbl_line(term: Term, species: tuple[str, ...]) -> tuple[tuple[float, ...], Array]:
    data = term.data()
    if data.get("pairs"):
        rows = {tuple(p[:2]): p[2:] for p in data["pairs"]}
        pairs = [tuple(sorted((a, b))) for n, a in enumerate(species) for b in species[n:]]
        return (0.0, 0.0), np.array([rows[p] for p in pairs], dtype=float)
    inner = 0.5 * data["outer"] if data["inner"] is None else data["inner"]
    return (inner, data["outer"], *([data["factor"]] if data.get("factor") is not None else [])), np.zeros((0, 10))


__all__ = ["contents", "expression", "numbers", "read_nep", "writable"]
