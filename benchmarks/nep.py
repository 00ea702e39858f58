"""Speed of NEP models against NEP_CPU (calorine): energy, forces and virial, and the gradient of a training step.

Needs the reference data (`COMPOSER_SHARED`, or `shared` beside the repository); they are read, never copied.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.build
import torch
from ase import Atoms

import composer
from benchmarks import peers_nep
from benchmarks.timing import Row, Timer, interleave, wall
from composer.neighbors import all_positions
from composer.runtime.kernel import row_length
from terms import NEP

SKIN = 1.0  # Å, of the list that both sides are given
KERNEL_BAR, GRADIENT_BAR, COMPILE_BAR, DOUBLE_BAR = 0.10, 3.0, 10.0, 2.2


def silicon() -> Atoms:
    """4096 rattled atoms."""
    atoms = ase.build.bulk("Si", "diamond", a=5.43, cubic=True) * (8, 8, 8)
    atoms.rattle(0.1, seed=2)
    return atoms


def lead_telluride() -> Atoms:
    """2016 rattled atoms."""
    atoms = ase.build.bulk("PbTe", "rocksalt", a=6.57, cubic=True) * (6, 6, 7)
    atoms.rattle(0.1, seed=2)
    return atoms


CASES = {
    "Si, 5-body": ("models/Si_2022_NEP4_5body.txt", silicon),
    "PbTe": ("pbte/gpumd_nep.txt", lead_telluride),
    "PbTe, tutorial": ("pbte/tutorial_nep.txt", lead_telluride),
}


def data() -> Path:
    """The folder of the reference data."""
    return Path(os.environ.get("COMPOSER_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "nep"


def rows(only: str = "", repeats: int = 9) -> Iterator[Row]:
    """Measure the cases whose name contains `only`."""
    for name, (file, structure) in CASES.items():
        if only.lower() in name.lower():
            yield from _case(name, data() / file, structure(), repeats)
    if only.lower() in "twice the neighbours":
        yield linear(repeats)


def _case(name: str, path: Path, atoms: Atoms, repeats: int) -> Iterator[Row]:
    model = composer.read_model(path)
    batch = model.prepare([atoms], skin=SKIN)
    listed = f"{len(atoms)} atoms, {len(batch.index) / len(atoms):.0f} neighbours listed, skin {SKIN} Å"
    forces = wall(lambda: model(batch), 3)
    if peers_nep.sources() is not None:
        peer = peers_nep.SameList(path, batch, len(model.species))
        assert abs(peer.step() - float(model(batch).energy)) < 1e-6 * len(atoms)
        found = interleave({"ours": forces, "peer": wall(peer.step)}, repeats)
        yield _row(
            f"{name}: E, F, W on the same list", found, KERNEL_BAR, f"NEP_CPU from source, {' '.join(peers_nep.FLAGS[:3])}; {listed}"
        )
    found = interleave({"ours": wall(lambda: model(model.prepare([atoms]))), "peer": peers_nep.own_list(path, atoms)}, max(repeats // 3, 1))
    yield _row(f"{name}: E, F, W with own list", found, KERNEL_BAR, f"calorine's C++; {len(atoms)} atoms, list built in every call")
    if peer := peers_nep.adapters(path, atoms):
        timer, version = peer
        found = interleave({"ours": wall(lambda: model(model.prepare([atoms]))), "peer": timer}, max(repeats // 3, 1))
        yield _row(f"{name}: E, F, W with own list / nep-adapters", found, 1.0, f"nep-adapters {version}; {len(atoms)} atoms")
    found = interleave({"ours": gradient(model, batch), "peer": forces}, repeats)
    yield _row(f"{name}: training gradient / force call", found, GRADIENT_BAR, f"theta alone, E and F loss; {listed}")
    yield _compile(name, model, batch)


def linear(repeats: int) -> Row:
    """The gradient of a training step with twice the neighbours."""
    atoms, found, counts = lead_telluride(), {}, []
    for side, cutoff in (("ours", 8.0), ("peer", 6.35)):
        model = composer.compile(NEP(cutoff=(cutoff, 4.0)), ["Pb", "Te"], quiet=True)
        batch = model.prepare([atoms])
        counts.append(len(batch.index) / len(atoms))
        found[side] = gradient(model, batch)
    note = f"{counts[0]:.0f} and {counts[1]:.0f} neighbours of an atom"
    return _row("training gradient, twice the neighbours", interleave(found, repeats), DOUBLE_BAR, note)


def gradient(model: Any, batch: Any) -> Timer:
    """The gradient kernel of one step."""
    one = torch.ones(batch.atoms, dtype=torch.float64)
    moves = torch.randn(batch.sites, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.01
    x = all_positions(batch)
    return wall(lambda: model.kernel("gradient")(batch, model.flat, x, {"seed": one, "seed_t": one}, moves=moves), 3)


def _compile(name: str, model: Any, batch: Any) -> Row:
    """Seconds to generate and compile a kernel that is in no cache: its text gets a comment of its own."""
    import time

    from composer.runtime.build import library
    from composer.runtime.code import generate

    start = time.perf_counter()
    code = generate("forces", model.program("forces"), model.layout)
    kernel = model.kernel("forces")
    optimize, extra = kernel.effort
    library(f"// {time.time_ns()}\n" + kernel.source(row_length(batch.max_neighbors)), optimize=optimize, extra=extra)
    return Row(f"{name}: cold compile", time.perf_counter() - start, None, COMPILE_BAR, "s", f"{len(code.text)} characters")


def _row(name: str, seconds: dict[str, float], bar: float, note: str) -> Row:
    return Row(name, seconds["ours"] * 1e3, seconds["peer"] * 1e3, bar, "ms", note)
