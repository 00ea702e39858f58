"""Speed of the CUDA kernels on the GPU of this machine: energy, forces and virial in float32, with lists that have a skin.

One call measures all rows in at most 8 minutes, those with a bar first: what is left over then says so. A row that fails says why, and the others
go on, in processes of their own if the GPU no longer answers this one. Without a GPU every row says why it is empty. Times are medians of CUDA
events on one stream; that of a training is the wall clock.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import ase.build
import torch
from ase import Atoms

import composer
from benchmarks import gpu_longrange, models, nep, peers_torch, systems, training
from benchmarks.gpu_place import Place, copy_rate, elsewhere, matrix_rate, side_by_side
from benchmarks.timing import Row
from composer.fit.recipe import Epoch, Recipe
from composer.fit.scaling import scaled
from composer.fit.training import train
from composer.model import DeviceModel
from composer.model.device import Evaluation

SKIN = 1.0  # Å
EAGER_CELLS = 29  # cells along each edge for the eager peers: some 10^5 atoms
STEPS = 500  # of molecular dynamics in a row
DT, MASS = 0.01, 28.0
EPOCHS, SECONDS = 2000, 60.0  # most of a training
PUBLISHED = 0.00041, 0.0399  # eV/atom, eV/Å: errors of the published potential of PbTe on the frames it was fitted to
IONS = 32  # cells of rock salt along an edge
LIMIT = 450.0  # s, after which no row is begun

GPU = Place()


@dataclass(frozen=True)
class System:
    """A crystal with a model: nanoseconds per atom and step, at most `bar`."""

    name: str
    model: Callable[[], Any]
    atoms: Callable[[int], Atoms]  # of so many cells along an edge
    cells: int
    bar: float | None
    energy: peers_torch.Energy | None = None  # the same by hand, for eager torch
    values: tuple[float, ...] = ()
    cutoff: float = 0.0
    triplets: bool = False


def published(file: str) -> Any:
    """A published NEP of the reference data."""
    path = nep.data() / file
    if not path.exists():
        raise FileNotFoundError(f"{path.name} is not in the reference data of this machine: set COMPOSER_SHARED")
    return composer.read_model(path)


def lead_telluride(cells: int) -> Atoms:
    """8 cells^3 rattled atoms."""
    atoms = ase.build.bulk("PbTe", "rocksalt", a=6.57, cubic=True) * (cells, cells, cells)
    atoms.rattle(0.1, seed=2)
    return atoms


SYSTEMS = (
    System(
        "LJ 1,000,188", models.lennard_jones, systems.argon, 63, 1.0,
        peers_torch.lj, tuple(systems.LJ.values()), systems.LJ_CUTOFF,
    ),
    System(
        "EAM 1,000,188", models.embedded_atom, systems.copper, 63, 2.0,
        peers_torch.eam, tuple(systems.EAM.values()), systems.EAM_CUTOFF,
    ),
    System(
        "SW 1,000,000", models.stillinger_weber, systems.silicon, 50, 2.0,
        peers_torch.sw, tuple(systems.SW.values()), systems.SW_CUTOFF, True,
    ),
    System("Tersoff 1,000,000", models.tersoff, systems.silicon, 50, None),
    System("NEP Si 512,000", lambda: published("models/Si_2022_NEP4_5body.txt"), systems.silicon, 40, 33.0),
    System("NEP PbTe 512,000", lambda: published("pbte/gpumd_nep.txt"), lead_telluride, 40, 33.0),
)  # fmt: skip


def rows(only: str = "", repeats: int = 9, here: Place = GPU, limit: float = LIMIT) -> Iterator[Row]:
    """Measure the cases whose name contains `only` (or is what follows a =), one row each; none is begun after `limit` seconds."""
    start, answers = time.perf_counter(), True
    for name, bar, unit, measure in cases():
        if name != only[1:] if only.startswith("=") else only.lower() not in name.lower():
            continue
        left, row = limit - (time.perf_counter() - start), Row(name, None, None, bar, unit, here.missing)
        if not here.missing and left <= 0:
            row = dataclasses.replace(row, note=f"left out: {limit:.0f} s were over; add --only '={name}'")
        elif not here.missing and not answers:
            row = elsewhere(row, repeats, left)
        elif not here.missing:
            try:
                row = measure(here, name, bar, unit, repeats)
            except Exception as error:  # whatever it is: the other rows go on
                row = dataclasses.replace(row, note=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
            answers = here.forget()
        yield row


Measure = Callable[[Place, str, float | None, str, int], Row]


def cases() -> Iterator[tuple[str, float | None, str, Measure]]:
    """All rows: name, bar, unit, what measures; what has a bar comes first, what compiles long comes last."""
    yield "copy rate of the device", None, "TB/s", copy_row
    yield "matrix rate of the device, float32", None, "TFLOP/s", matrix_row
    yield "kernels of all cases, compiled side by side", None, "s", kernels_row
    for s in SYSTEMS:
        yield f"{s.name}: E, F, W", s.bar, "ns/atom", _of(s, force_row)
    yield "SW 200: one step of dynamics in a CUDA graph", 60.0, "us", graph_row
    for n, size, bar in ((IONS, "260,000", 1.5), (24, "108,000", None)):
        yield f"mesh electrostatics, {size} ions, 1e-4", bar, "ms", partial(gpu_longrange.ions_row, n)
    yield "mesh electrostatics, 5,000 ions, 1e-4, in a CUDA graph", 0.1, "ms", partial(gpu_longrange.graph_row, 9)
    for s in SYSTEMS:
        yield f"{s.name}: training gradient / force call", 3.0, "ns/atom", _of(s, gradient_row)
    yield "NEP training on PbTe", 20.0, "s", training_row
    for s in SYSTEMS:
        yield f"{s.name}: list of neighbours", None, "ns/atom", _of(s, list_row)
    timed = [s for s in SYSTEMS if s.energy is not None]
    for s in timed:
        yield f"{s.name}: E, F, W, deterministic", None, "ns/atom", _of(s, deterministic_row)
    for s in timed:
        yield f"{s.name}: eager torch, E and F", None, "ns/atom", _of(s, eager_row)
    yield "mesh electrostatics, 260,000 ions, 1e-4: torch-pme", None, "ms", partial(gpu_longrange.torch_pme_row, IONS)
    for s in timed:
        yield f"{s.name}: torch.compile, E and F", None, "ns/atom", _of(s, compiled_row)


def _of(system: System, measure: Callable[..., Row]) -> Measure:
    return lambda here, name, bar, unit, repeats: measure(here, system, name, bar, unit, repeats)


def copy_row(here: Place, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    return Row(name, copy_rate(here) / 1e12, None, bar, unit, f"{here.name}, torch {torch.__version__}")


def matrix_row(here: Place, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    rate, size = matrix_rate(here, repeats)
    return Row(name, rate / 1e12, None, bar, unit, f"{size}^3, no TF32")


def kernels_row(here: Place, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    """What the rows below launch; a kernel that fails is met again by its row."""
    start, kernels = time.perf_counter(), []
    for s in SYSTEMS if here.device == "cuda" else SYSTEMS[:1]:
        with suppress(FileNotFoundError):
            kernels += [model_of(here, s).kernel(kind) for kind in ("forces", "gradient")]
            if s.energy is not None:
                kernels.append(model_of(here, s, True).kernel("forces"))
    if here.device == "cuda":
        trained = here.model(composer.compile(training.MODEL, ["Pb", "Te"], quiet=True))
        kernels += [trained.kernel(kind) for kind in ("forces", "gradient")]
    seconds = side_by_side([partial(getattr, kernel, "launches") for kernel in kernels])
    slowest = max(zip(seconds, (k.name for k in kernels), strict=True))
    return Row(
        name, time.perf_counter() - start, None, bar, unit, f"{len(kernels)} kernels; the slowest, {slowest[1]}, took {slowest[0]:.0f} s"
    )


@cache
def model_of(here: Place, system: System, deterministic: bool = False) -> DeviceModel:
    """The model on the device."""
    return here.model(system.model(), deterministic)


@cache
def loaded(here: Place, system: System, deterministic: bool = False) -> tuple[DeviceModel, Evaluation]:
    """The model on the device with its crystal, run once."""
    model = model_of(here, system, deterministic)
    evaluation = model.evaluation(model.prepare(system.atoms(min(system.cells, here.cells)), skin=SKIN))
    evaluation.run()
    if not bool(torch.isfinite(evaluation.energy).all()):
        raise ArithmeticError(f"The energy of {system.name} is not finite. Its time says nothing. Run tests/cuda first.")
    return model, evaluation


def force_row(here: Place, system: System, name: str, bar: float | None, unit: str, repeats: int, deterministic: bool = False) -> Row:
    evaluation = loaded(here, system, deterministic)[1]
    batch, kernel = evaluation.batch, evaluation.kernel
    time = here.seconds(evaluation.run, repeats) / batch.atoms
    listed = float(batch.count.sum()) / batch.atoms
    moved = (
        4 * listed + 3 * 32 + 24 + 4 * 16 + 3 * 24 + 8
    )  # bytes: list, sites, positions, forces and virials (zeroed, read, written), energy
    share = moved / copy_rate(here) / time
    note = (
        f"{1 / time:.3g} atom-steps/s; {listed:.0f} neighbours listed, skin {SKIN} Å; {kernel.rows} rows kept; "
        f"{moved:.0f} B/atom at least through memory: {100 * share:.0f} % of the copy rate; sites gathered from L2: {32 * listed:.0f} B/atom"
    )
    return Row(name, time * 1e9, None, bar, unit, note)


def deterministic_row(here: Place, system: System, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    return force_row(here, system, name, bar, unit, repeats, deterministic=True)


def list_row(here: Place, system: System, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    _, evaluation = loaded(here, system)
    batch = evaluation.batch
    build, look = here.seconds(batch.rebuilt, 3, 1), here.seconds(batch.look, repeats)
    note = f"{batch.sites - batch.atoms} images; looking whether it still holds: {look / batch.atoms * 1e9:.3g} ns/atom"
    return Row(name, build / batch.atoms * 1e9, None, bar, unit, note)


def gradient_row(here: Place, system: System, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    model, evaluation = loaded(here, system)
    batch, kernel = evaluation.batch, model.kernel("gradient")
    buffers = kernel.buffers(batch)
    kernel.give(buffers, {"seed": 1.0, "seed_t": 1.0})
    moves = 0.01 * torch.randn(batch.sites, 3, dtype=torch.float64, device=here.device)

    def gradient() -> None:
        kernel.run(batch, buffers, model.numbers, moves=moves)
        buffers.gradient.sum(1)

    ours, peer = (here.seconds(work, repeats) / batch.atoms * 1e9 for work in (gradient, evaluation.run))
    return Row(name, ours, peer, bar, unit, f"{model.size} numbers, {buffers.threads} threads with a sum of their own")


def eager_row(here: Place, system: System, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    return _by_torch(here, system, name, bar, unit, repeats, lambda f: f)


def compiled_row(here: Place, system: System, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    return _by_torch(here, system, name, bar, unit, repeats, torch.compile)


def _by_torch(here: Place, system: System, name: str, bar: float | None, unit: str, repeats: int, wrap: Callable) -> Row:
    assert system.energy is not None
    atoms = system.atoms(min(EAGER_CELLS, here.cells))
    found = peers_torch.edges(atoms, system.cutoff, system.triplets)
    edges = peers_torch.Edges(**{f.name: getattr(found, f.name).to(here.device) for f in dataclasses.fields(found)})
    x = torch.from_numpy(atoms.positions).to(here.device).requires_grad_()
    theta = torch.tensor(system.values, dtype=torch.float64, device=here.device)
    energy = wrap(lambda y: system.energy(y, theta, edges))  # type: ignore[misc]
    time = here.seconds(lambda: torch.autograd.grad(energy(x), x), repeats, 1) / len(atoms)
    _, ours = loaded(here, system)
    note = f"float64, {len(atoms)} atoms, no skin, no virial; the peer is our float32 kernel"
    return Row(name, time * 1e9, here.seconds(ours.run, repeats) / ours.batch.atoms * 1e9, bar, unit, note)


def training_row(here: Place, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    """Adam on 20 frames until the errors on the 5 frames of a fold, held out, are those of the published potential on frames it was fitted to."""
    learn, held = (part[: here.numbers(len(part), 2)] for part in training.frames(0))
    model = here.model(scaled(composer.compile(training.MODEL, ["Pb", "Te"], quiet=True), learn))
    model.build(model.prepare(learn[:1]), ("forces", "gradient"))
    recipe, start, seen = Recipe(epochs=here.numbers(EPOCHS, 2), batch=training.BATCH), time.perf_counter(), []

    def short(epoch: Epoch) -> bool:
        return any(not e <= p for e, p in zip(epoch.validation, PUBLISHED, strict=False))

    def note(epoch: Epoch) -> None:
        seen.append((time.perf_counter() - start, epoch))
        if seen[-1][0] > SECONDS or not short(epoch):
            raise training.Enough

    with suppress(training.Enough):
        train(model, learn, held, recipe, training.SEED, report=note)
    seconds, last = seen[-1]
    note_ = f"{last}; {seconds / last.number * 1e3:.3g} ms an epoch; stopped after {seconds:.1f} s{', short of the bar' * short(last)}"
    return Row(name, None if short(last) else seconds, None, bar, unit, note_)


def graph_row(here: Place, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    """Velocity Verlet of 200 atoms, one step captured once and replayed; the list is looked at in every step, on the device."""
    model = here.model(models.stillinger_weber())
    batch = model.prepare(ase.build.bulk("Si", "diamond", a=5.43, cubic=True) * (5, 5, 1), skin=SKIN)
    evaluation = model.evaluation(batch)
    velocity = 0.01 * torch.randn(batch.atoms, 3, dtype=torch.float64, device=here.device)
    half = 0.5 * DT / MASS

    def step() -> None:
        velocity.add_(evaluation.slopes, alpha=half)
        batch.positions.add_(velocity, alpha=DT)
        evaluation.run()
        velocity.add_(evaluation.slopes, alpha=half)
        batch.look()

    steps = here.numbers(STEPS)
    time = here.seconds(here.captured(step), repeats, steps)
    eager = here.seconds(step, repeats, steps // 10)
    return Row(name, time * 1e6, None, bar, unit, f"{eager * 1e6:.0f} us without a graph; stale list at the end: {bool(batch.stale)}")
