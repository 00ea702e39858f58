"""Accuracy of the models that `composer.search` finds: `python -m benchmarks accuracy --only Mo --parts cv,cost --json out.json`.

Parts: cv (grouped cross-validation on train beside the SNAP basis), cost (time of a force call), types (one config_type left out), md (hot
dynamics), gain (predicted gains of the search beside realised ones), test (a look at the official test set, logged), snap (a look at the same
test by the refitted SNAP basis). Test files are opened by these two alone, and only from a committed working tree.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

import composer
from benchmarks import core, held_out, looks, official, peers_lammps
from benchmarks.held_out import Make, Residuals
from benchmarks.sets import SETS, Case, hot
from benchmarks.snap_basis import Snap
from benchmarks.timing import Row, interleave
from benchmarks.winner import Settings, Winner, winner
from composer.data import Data

UNITS = held_out.UNITS
RUNS, PICOSECONDS, SMALLEST = 20, 10.0, 32  # of hot dynamics; smaller cells are repeated
COST_BAR, GAIN_BAR = 0.2, 0.7
CORES = min(2, os.cpu_count() or 1)


@dataclass(eq=False)
class Study:
    """One set and the model that is measured on it; both are made when first asked for."""

    case: Case
    settings: Settings
    repeats: int = 9
    commit: str = field(default_factory=looks.commit)

    @cached_property
    def train(self) -> Data:
        found = self.case.training()
        say(f"{self.case.name}: {found}, {len(set(found.groups.tolist()))} groups")
        return found

    @cached_property
    def winner(self) -> Winner:
        found = winner(self.case, self.train, self.settings)
        say(f"{self.case.name}: {found.title}")
        return found

    @cached_property
    def peer(self) -> Make:
        say(f"{self.case.name}: rows of the SNAP basis")
        return held_out.snap_rows(self.train, self.case.peer())

    @cached_property
    def weight(self) -> float:
        """Weight of energies that is best for the peer in its own cross-validation: it favours the peer."""
        return held_out.best_weight(self.peer(np.arange(len(self.train))), held_out.folds(self.train, self.settings.seed))

    @cached_property
    def sides(self) -> dict[str, Make]:
        return {"ours": held_out.model_rows(self.train, self.winner.model, self.weight), "peer": self.peer}


def rows(only: str = "", repeats: int = 9, parts: str = "cv,cost", settings: Settings | None = None) -> Iterator[Row]:
    """Measure `parts` (comma-separated) of the sets named or containing `only`."""
    torch.set_num_threads(1)
    composer.set_threads(CORES)
    asked = [part.strip() for part in parts.split(",")]
    if unknown := [part for part in asked if part not in PARTS]:
        raise SystemExit(f"Parts {unknown} of the accuracy table were asked for. Known are {', '.join(PARTS)}. Use these names.")
    if {"test", "snap"} & set(asked):
        looks.committed()  # before anything is found, so that what is measured is what was committed
    for case in [c for c in SETS if c.name.lower() == only.lower()] or [c for c in SETS if only.lower() in c.name.lower()]:
        if case.missing:
            yield Row(case.name, None, None, None, "", case.missing)
            continue
        study = Study(case, settings or Settings(), repeats)
        for part in asked:
            yield from PARTS[part](study)


# ---- cross-validation on train


def cv(study: Study) -> Iterator[Row]:
    """Grouped 5-fold cross-validation, three divisions, beside the SNAP basis; paired bootstrap over groups."""
    found: dict[str, list[Residuals]] = {"ours": [], "peer": []}
    divisions = [held_out.folds(study.train, study.settings.seed + k) for k in (1, 2, 3)]  # not the one that a search of this seed used
    for number, fold in enumerate(divisions, 1):
        for side, make in study.sides.items():
            found[side].append(held_out.held_out(make, fold, fold, study.weight))
        say(f"{study.case.name}: division {number} of 3 held out")
    groups = study.train.groups
    intervals = held_out.interval(found["ours"], found["peer"], groups)
    coefficients = study.peer(np.arange(len(study.train))).parameters
    note = (
        f"{study.winner.title}; SNAP {coefficients} coefficients; both by analysis.solve, E/N rows weighted {study.weight:.3g} 1/Å (best for SNAP); "
        f"{len(np.unique(groups))} groups; the form was chosen on these frames; "
    )
    for o, (ours, peer, low, high) in intervals.items():
        scale, unit = UNITS[o]
        name = f"{study.case.name} CV {o} RMSE / SNAP"
        yield Row(name, scale * ours, scale * peer, 1.0, unit, f"{note}ratio {ours / peer:.3f} [{low:.3f}, {high:.3f}]")
        yield Row(f"{study.case.name} CV {o}: 97.5 % bound of the ratio", high, None, 1.0, "", "paired bootstrap over groups")


def types(study: Study) -> Iterator[Row]:
    """One config_type left out in turn: 95th percentile of |error| and the worst frame, beside the SNAP basis."""
    kinds = np.array([f.config_type for f in study.train])
    if len(np.unique(kinds)) < 2:
        yield Row(f"{study.case.name} types", None, None, None, "", "skipped: the frames have no config_type to leave out")
        return
    inner = held_out.folds(study.train, study.settings.seed + 1)
    found = {side: held_out.held_out(make, kinds, inner, study.weight) for side, make in study.sides.items()}
    for kind in np.unique(kinds):
        for o, (scale, unit) in UNITS.items():
            spread = {side: _spread(errors, o, kinds == kind) for side, errors in found.items()}
            worst = ", ".join(f"{side} {scale * size:.3g} {unit} in frame {at}" for side, (_, size, at) in spread.items())
            p95 = {side: scale * values[0] for side, values in spread.items()}
            yield Row(
                f"{study.case.name} without {kind}, {o} 95th percentile", p95["ours"], p95["peer"], None, unit, f"worst RMSE: {worst}"
            )


def _spread(errors: Residuals, observable: str, inside: NDArray[np.bool_]) -> tuple[float, float, int]:
    """95th percentile of |error| of the frames inside, and the RMSE and place of the worst of them."""
    frame = np.arange(len(inside)) if observable == "energy" else errors.frame
    error, frame = (x[inside[frame]] for x in (getattr(errors, observable), frame))
    counts = np.bincount(frame, minlength=len(inside))
    size = np.sqrt(np.bincount(frame, error**2, len(inside)) / np.maximum(counts, 1))
    return float(np.quantile(np.abs(error), 0.95)), float(size.max()), int(np.argmax(size))


# ---- cost, dynamics, gains


def cost(study: Study) -> Iterator[Row]:
    """Force call of the winner / Pair time of LAMMPS snap with the published settings, the same crystal, one thread."""
    atoms, snap = study.case.supercell(), study.case.peer()
    steps = max(3, -(-core.LEAST_STEPS // study.repeats))
    model = study.winner.model
    with threads(1), peers_lammps.Anchor(atoms, snap_style(snap), core.SKIN) as anchor:
        timers = {"peer": lambda: anchor.pair_seconds(steps), "ours": core.model_forces(model, atoms, 4 * steps)}
        seconds = interleave(timers, study.repeats)
    note = f"{len(atoms)} atoms, cutoffs {model.cutoff:g} and {snap.cutoff:g} Å, skin {core.SKIN} Å, E + F + virial"
    per_atom = {side: 1e6 * t / len(atoms) for side, t in seconds.items()}
    yield Row(f"{study.case.name} cost / LAMMPS snap", per_atom["ours"], per_atom["peer"], COST_BAR, "µs/atom", note)


def snap_style(snap: Snap) -> peers_lammps.Style:
    """The LAMMPS commands and files of a SNAP."""
    blocks = [f"{e} {r} {w}\n" + "\n".join(map(str, c)) for e, r, w, c in zip(snap.elements, snap.radii, snap.weights, snap.coefficients)]
    coefficients = f"{len(snap.elements)} {snap.coefficients.shape[1]}\n" + "\n".join(blocks) + "\n"
    settings = "\n".join(f"{key} {value:g}" for key, value in snap.settings.items()) + "\nquadraticflag 0\n"
    files = {"a.snapcoeff": coefficients, "a.snapparam": settings}
    command = 'pair_coeff * * "{folder}/a.snapcoeff" "{folder}/a.snapparam" ' + " ".join(snap.elements)
    return peers_lammps.Style(snap.elements, ("pair_style snap", command), files)


def md(study: Study) -> Iterator[Row]:
    """Hot runs of the winner from frames spread over the set."""
    starts = [_grown(study.train[int(at)].atoms()) for at in np.linspace(0, len(study.train) - 1, RUNS).round()]
    lost = []
    for seed, atoms in enumerate(starts):
        temperature = hot(study.train, atoms)
        with threads(1):
            verdict = composer.survives(study.winner.model, atoms, temperature, ps=PICOSECONDS, ensemble="nvt", seed=seed)
        lost += [] if verdict else [f"run {seed} ({atoms.info['config_type']}, {len(atoms)} atoms, {temperature:.0f} K): {verdict.reason}"]
        say(f"{study.case.name}: run {seed + 1} of {RUNS}, {len(atoms)} atoms, {temperature:.0f} K: {verdict.reason or 'survived'}")
    temperatures = sorted({round(hot(study.train, a)) for a in starts})
    note = f"{RUNS - len(lost)} of {RUNS} survive {PICOSECONDS:g} ps of NVT at {temperatures[0]}-{temperatures[-1]} K; {'; '.join(lost)}"
    yield Row(f"{study.case.name} hot MD runs lost of {RUNS}", float(len(lost)), None, 0.0, "runs", note)


def _grown(atoms: Atoms) -> Atoms:
    """A cell repeated along its shortest vector until it is large enough for dynamics."""
    while len(atoms) < SMALLEST:
        repeats = np.ones(3, int)
        repeats[np.argmin(atoms.cell.lengths())] = 2
        atoms = atoms.repeat(repeats)
    return atoms


def gain(study: Study) -> Iterator[Row]:
    """Rank correlation of the gains that the search predicted with those that it found."""
    rho, name = study.winner.spearman, f"{study.case.name} gains, 1 - Spearman"
    if rho is None:
        yield Row(name, None, None, None, "", f"skipped: no search was run ({study.winner.origin})")
    else:
        yield Row(name, 1.0 - rho, None, 1.0 - GAIN_BAR, "", f"Spearman {rho:.3f} over all trials; {study.winner.origin}")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` threads in kernels inside."""
    composer.set_threads(count)
    try:
        yield
    finally:
        composer.set_threads(CORES)


def say(text: str) -> None:
    print(text, flush=True)


def test(study: Study) -> Iterator[Row]:
    """Errors on the official test set, printed once: the look is logged first, from a committed state that has not changed."""
    model = study.winner.model
    data = official.opened(study.case, study.commit)
    found = official.Look(study.case, model.evaluate(data), data, str(model.expression), model.size, study.winner.origin)
    yield from found.rows(study.commit, study.winner.title)


def snap(study: Study) -> Iterator[Row]:
    """Errors on the official test set of the SNAP basis refitted to the train frames: what these permit. A look, logged like any other."""
    known, folds = study.peer(np.arange(len(study.train))), held_out.folds(study.train, study.settings.seed)
    theta, ridge = held_out.solved(known, folds, study.weight)
    data = official.opened(study.case, study.commit)
    rows = held_out.snap_rows(data, study.case.peer(), study.train)(np.arange(len(data)))
    origin = f"E/N rows weighted {study.weight:.3g} 1/Å, ridge {ridge:.0e}: best in its own cross-validation"
    found = official.Look(study.case, held_out.errors(rows, theta, data), data, "SNAP basis refitted", len(theta), origin)
    yield from found.rows(study.commit, f"SNAP basis refitted, P = {len(theta)}, {origin}", "refitted SNAP")


PARTS: dict[str, Callable[[Study], Iterator[Row]]] = {
    "cv": cv, "cost": cost, "types": types, "md": md, "gain": gain, "test": test, "snap": snap,
}  # fmt: skip
"""What can be measured, by name."""
