"""Long-range sums on perturbed rock salt against LAMMPS pppm, torch-pme and OpenMM, on one thread, at a relative force error of 1e-4.

Energy, forces, virial and potentials; lists are made once on all sides. Every note states the error of both sides, measured against a sum that
is converged to 1e-9. Optional peers are left out where they are not installed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.timing import Row, Timer, interleave, wall  # first: it fixes the number of threads

import numpy as np  # isort: skip
import torch  # isort: skip

from benchmarks import peers_longrange as peers  # isort: skip
from composer import longrange  # isort: skip
from composer.ops.bounds import MELT, SHARE  # isort: skip
from composer.ops.plan import density  # isort: skip
from composer.ops.splits import candidates  # isort: skip

SIDE = 5.64  # Å
TARGET = 1e-4
STEPS = 3  # calls in a row of every code, as in dynamics


@dataclass(frozen=True)
class Salt:
    """n^3 conventional cells of rock salt with Gaussian noise of 0.15 Å."""

    n: int

    def arrays(self) -> tuple[np.ndarray, np.ndarray, float]:
        base = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]])
        grid = np.stack(np.meshgrid(*[np.arange(self.n)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
        x = ((grid + base[None]) * SIDE).reshape(-1, 3)
        x = (x + np.random.default_rng(0).normal(size=x.shape) * 0.15) % (self.n * SIDE)
        return x, np.tile([1.0] * 4 + [-1.0] * 4, self.n**3), self.n * SIDE

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, q, side = self.arrays()
        return torch.from_numpy(x), torch.from_numpy(q), torch.eye(3, dtype=torch.float64) * side


def error(forces: np.ndarray, exact: np.ndarray) -> float:
    """Relative r.m.s. force error."""
    return float(np.sqrt(((forces - exact) ** 2).sum() / (exact**2).sum()))


def asked(exact: np.ndarray, q: torch.Tensor, h: torch.Tensor) -> float:
    """The accuracy to ask for, which is relative to the force of a melt, where errors are to be 1e-4 of these forces."""
    melt = MELT * float((q**2).mean()) * (len(q) / float(torch.linalg.det(h))) ** (2 / 3)
    return TARGET * float(np.sqrt((exact**2).sum(1).mean())) / melt


def rows(only: str = "", repeats: int = 9) -> Iterator[Row]:
    """All rows whose name contains `only`."""
    torch.set_num_threads(1)
    for n in (5, 10, 15):
        yield from (row for row in _sizes(n, only, repeats))
    cases = ("split", _split), ("choice", _choice), ("flat", _flat)
    for name, case in (("training step", _training), ("64 x 100 ions", _batch), ("growth", _growth), ("drift", _drift), *cases):
        if only in name:
            yield from case(repeats)


def _sizes(n: int, only: str, repeats: int) -> Iterator[Row]:
    names = [f"{8 * n**3} ions / {peer}" for peer in ("pppm", "torch-pme", "OpenMM")]
    if not any(only in name for name in names):
        return
    (x, q, side), (tx, tq, th) = Salt(n).arrays(), Salt(n).tensors()
    exact = longrange.prepare(tx, th, accuracy=1e-10, method="mesh", cutoff=9.0).evaluate(tx, tq).forces.numpy()
    sums = longrange.prepare(tx, th, accuracy=asked(exact, tq, th), skin=0.5)
    timers: dict[str, Timer] = {"ours": wall(lambda: sums.evaluate(tx, tq, th), STEPS)}
    ours = error(sums.evaluate(tx, tq, th).forces.numpy(), exact)
    notes, closing = {}, []
    if only in names[0]:
        alpha, best = 0.3305, None
        for order, spacing, cutoff, a in ((7, 1.175, 10.0, alpha), (7, 0.94, 8.0, 0.4153)):
            peer = peers.Pppm(x, q, side, cutoff, a, order, 2 * round(side / spacing / 2))
            closing.append(peer)
            seconds = peer.seconds(STEPS)
            best = min(best or (9e9, peer, ""), (seconds, peer, f"order {order}, cutoff {cutoff:g}"), key=lambda b: b[0])
        timers["pppm"] = lambda p=best[1]: p.seconds(STEPS)
        notes["pppm"] = f"{best[2]}, error {error(best[1].forces, exact):.1e}"
    if only in names[1] and peers.present("torchpme") and n <= 10:
        mesh = 2 ** int(np.ceil(np.log2(side / 1.0)))
        peer = peers.TorchPme(x, q, side, 10.0, 0.3305, 5, mesh)
        timers["torch-pme"] = wall(peer, STEPS)
        notes["torch-pme"] = f"P3M, 5 nodes, mesh {mesh}, cutoff 10, error {error(peer().numpy(), exact):.1e}"
    if only in names[2] and peers.present("openmm"):
        peer = peers.OpenMM(x, q, side, 10.0, 0.3305, 2 * round(side / 0.783 / 2))
        timers["OpenMM"] = wall(peer, STEPS)
        notes["OpenMM"] = f"float32, no virial, cutoff 10, error {error(peer.forces, exact):.1e}"
    found = interleave(timers, repeats)
    bars = {"pppm": 0.7, "torch-pme": 0.05, "OpenMM": 0.7}
    for peer, note in notes.items():
        how = f"{sums.describe().splitlines()[1].strip()}, error {ours:.1e}; {note}"
        scale = 1e6 / len(q)
        yield Row(f"{len(q)} ions / {peer}", found["ours"] * scale, found[peer] * scale, bars[peer], "us/ion", how)
    for peer in closing:
        peer.__exit__()


def _training(repeats: int) -> Iterator[Row]:
    """Gradient of a force loss by charges / energy and forces."""
    x, q, h = Salt(10).tensors()
    sums = longrange.prepare(x, h, accuracy=TARGET)
    target = sums.evaluate(x, q, h).forces * 0.9

    def step() -> torch.Tensor:
        charges = q.clone().requires_grad_()
        forces = sums.evaluate(x, charges, h).forces
        return torch.autograd.grad(((forces - target) ** 2).sum(), charges)[0]

    found = interleave({"step": wall(step), "call": wall(lambda: sums.evaluate(x, q, h))}, repeats)
    note = "8000 ions; gradient of a force loss by every charge / energy, forces, virial and potentials"
    yield Row("training step", found["step"] * 1e3, found["call"] * 1e3, 4.0, "ms", note)


def _batch(repeats: int) -> Iterator[Row]:
    """64 structures in one call / 64 calls of torch-pme's Ewald sum."""
    random, parts = np.random.default_rng(1), []
    for _ in range(64):
        x, q, side = Salt(2).arrays()
        x = np.concatenate([x, x[:36] + [0.0, 0.0, side]])  # 100 ions in a longer box
        parts.append((x + random.normal(size=x.shape) * 0.05, np.concatenate([q, q[:36]]), side))
    x, q = (torch.from_numpy(np.concatenate([p[k] for p in parts])) for k in (0, 1))
    q = q - q.reshape(64, 100).mean(1).repeat_interleave(100)
    cells = torch.stack([torch.diag(torch.tensor([p[2], p[2], 1.75 * p[2]], dtype=torch.float64)) for p in parts])
    sums = longrange.prepare(x, cells, accuracy=TARGET, offsets=torch.arange(0, 6401, 100))
    timers: dict[str, Timer] = {"ours": wall(lambda: sums.evaluate(x, q, cells))}
    if peers.present("torchpme"):
        singles: list[Callable[[], object]] = [peers.TorchPme(p[0], p[1], p[2] * 1.75, 8.0, 0.4153, 4, 0, "Ewald") for p in parts]
        timers["peer"] = wall(lambda: [single() for single in singles])
    found = interleave(timers, max(repeats // 2, 3))
    peer = found.get("peer")
    note = "energy, forces, virial; torch-pme Ewald one by one (cubic boxes of the longer side)"
    yield Row("64 x 100 ions", found["ours"] * 1e3, None if peer is None else peer * 1e3, 0.1, "ms", note)


def _growth(repeats: int) -> Iterator[Row]:
    """Time per ion of 270,000 ions / 27,000 ions."""
    timers, counts = {}, {}
    for n in (15, 32):
        x, q, h = Salt(n).tensors()
        sums = longrange.prepare(x, h, accuracy=TARGET)
        timers[str(n)] = wall(partial(sums.evaluate, x, q, h))
        counts[str(n)] = len(q)
    found = interleave(timers, max(repeats // 3, 3))
    per = {n: found[n] / counts[n] * 1e6 for n in found}
    yield Row("growth", per["32"], per["15"], 1.3, "us/ion", f"{counts['32']} ions / {counts['15']} ions, time per ion")


def _split(repeats: int) -> Iterator[Row]:
    """The prolate split / the Gaussian one at the same measured error, each with the cutoff that suits it; waves at one cutoff."""
    for n in (2, 5, 10):
        x, q, h = Salt(n).tensors()
        exact = longrange.prepare(x, h, accuracy=1e-10, method="mesh", cutoff=9.0).evaluate(x, q).forces.numpy()
        accuracy = asked(exact, q, h)
        both = {s: longrange.prepare(x, h, accuracy=accuracy, skin=0.5, split=s) for s in ("prolate", "gaussian")}
        found = interleave({s: wall(partial(made.evaluate, x, q, h), STEPS) for s, made in both.items()}, repeats)
        notes = [
            f"{s}: {m.describe().splitlines()[1].strip()}, error {error(m.evaluate(x, q).forces.numpy(), exact):.1e}"
            for s, m in both.items()
        ]
        scale = 1e6 / len(q)
        yield Row(f"split, {len(q)} ions", found["prolate"] * scale, found["gaussian"] * scale, 1.0, "us/ion", "; ".join(notes))
    rows, rc = tuple(map(tuple, h.tolist())), 8.0
    splits = {s.words(): s for s in candidates(1.0, rc, density(rows, len(q)), accuracy, "auto")}
    waves = [s.waves(density(rows, len(q)), accuracy * SHARE) ** 3 * float(torch.linalg.det(h)) / (6 * np.pi**2) for s in splits.values()]
    yield Row("waves", waves[1], waves[0], 1 / 3, "waves", f"cutoff 8 Å: {' / '.join(reversed(splits))}")


def _choice(repeats: int) -> Iterator[Row]:
    """What is chosen for about 100 ions / the better of a sum over k and a mesh."""
    for cells in (1, 2, 3):
        x, q, h = Salt(cells).tensors()
        made = {m: longrange.prepare(x, h, accuracy=TARGET, method=m) for m in ("auto", "ewald", "mesh")}
        found = interleave({m: wall(partial(s.evaluate, x, q, h), 5) for m, s in made.items()}, repeats)
        best, scale = min(found["ewald"], found["mesh"]), 1e6 / len(q)
        note = made["auto"].describe().splitlines()[1].strip()
        yield Row(f"choice, {len(q)} ions", found["auto"] * scale, best * scale, 1.2, "us/ion", note)


def _flat(repeats: int) -> Iterator[Row]:
    """Largest / smallest time per ion of 1,000, 8,000 and 27,000 ions."""
    timers, counts = {}, {}
    for n in (5, 10, 15):
        x, q, h = Salt(n).tensors()
        sums = longrange.prepare(x, h, accuracy=TARGET, skin=0.5)
        timers[str(n)] = wall(partial(sums.evaluate, x, q, h))
        counts[str(n)] = len(q)
    per = {n: seconds / counts[n] * 1e6 for n, seconds in interleave(timers, repeats).items()}
    note = ", ".join(f"{counts[n]} ions {t:.2f}" for n, t in per.items())
    yield Row("flat", max(per.values()), min(per.values()), 1.2, "us/ion", note)


def _drift(_: int) -> Iterator[Row]:
    """Drift of the energy of a melt over 5,000 steps, as slope of a straight line."""
    from ase import Atoms, units
    from ase.md.verlet import VelocityVerlet

    import composer
    from terms import Charges, Coulomb, PairFormula

    x, q, side = Salt(2).arrays()
    salt = Atoms(np.where(q > 0, "Na", "Cl").tolist(), x, cell=[1.08 * side] * 3, pbc=True)
    repulsion = PairFormula("A*exp(-r/rho)", cutoff=6.0, A=1500.0, rho=0.317)
    expression = repulsion + Coulomb(Charges({"Na": 1, "Cl": -1}), accuracy=TARGET, cutoff=6.0)
    salt.calc = composer.compile(expression, ["Na", "Cl"], quiet=True).calculator()
    speeds = np.random.default_rng(0).normal(size=x.shape) * np.sqrt(3000 * units.kB / salt.get_masses())[:, None]
    salt.set_velocities(speeds - speeds.mean(0))
    motion, energies = VelocityVerlet(salt, 1.0 * units.fs), []
    for _ in range(500):
        motion.run(10)
        energies.append(salt.get_total_energy() / len(salt))
    slope = float(np.polyfit(np.arange(500) * 0.01, energies, 1)[0])
    note = f"64 ions at {salt.get_temperature():.0f} K, 5,000 steps of 1 fs; largest excursion {np.ptp(energies):.1e} eV/atom"
    yield Row("drift", abs(slope), None, 1e-5, "eV/atom/ps", note)
