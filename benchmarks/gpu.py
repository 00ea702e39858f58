"""Speed of the CUDA kernels on the GPU of this machine: energy, forces and virial in float32, with lists that have a skin.

One call measures all rows in a few minutes. Without a GPU every row says why it is empty. Times are medians of CUDA events on one stream.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import ase.build
import torch
from ase import Atoms

import composer
import terms  # noqa: F401  (the reader builds terms by name)
from benchmarks import gpu_longrange, models, nep, peers_torch, systems
from benchmarks.timing import Row
from composer.model.device import DeviceModel, Evaluation

SKIN = 1.0  # Å
EAGER_CELLS = 29  # cells along each edge for the eager peers: some 10^5 atoms
STEPS = 500  # of molecular dynamics in a row
DT, MASS = 0.01, 28.0


@dataclass(frozen=True)
class System:
    """A crystal with a model: nanoseconds per atom and step, at most `bar`."""

    name: str
    model: Callable[[], Any]
    atoms: Callable[[], Atoms]
    bar: float | None
    energy: peers_torch.Energy | None = None  # the same by hand, for eager torch
    small: Callable[[], Atoms] | None = None
    values: tuple[float, ...] = ()
    cutoff: float = 0.0
    triplets: bool = False


def published(file: str) -> Any:
    """A published NEP of the reference data."""
    path = nep.data() / file
    if not path.exists():
        raise FileNotFoundError(f"{path.name} is not in the reference data of this machine: set COMPOSER_SHARED")
    return composer.read_model(path)


def lead_telluride() -> Atoms:
    """512,000 rattled atoms."""
    atoms = ase.build.bulk("PbTe", "rocksalt", a=6.57, cubic=True) * (40, 40, 40)
    atoms.rattle(0.1, seed=2)
    return atoms


SYSTEMS = (
    System(
        "LJ 1,000,188", models.lennard_jones, lambda: systems.argon(63), 1.0,
        peers_torch.lj, lambda: systems.argon(EAGER_CELLS), tuple(systems.LJ.values()), systems.LJ_CUTOFF,
    ),
    System(
        "EAM 1,000,188", models.embedded_atom, lambda: systems.copper(63), 2.0,
        peers_torch.eam, lambda: systems.copper(EAGER_CELLS), tuple(systems.EAM.values()), systems.EAM_CUTOFF,
    ),
    System(
        "SW 1,000,000", models.stillinger_weber, lambda: systems.silicon(50), 2.0,
        peers_torch.sw, lambda: systems.silicon(EAGER_CELLS), tuple(systems.SW.values()), systems.SW_CUTOFF, True,
    ),
    System("Tersoff 1,000,000", models.tersoff, lambda: systems.silicon(50), None),
    System("NEP Si 512,000", lambda: published("models/Si_2022_NEP4_5body.txt"), lambda: systems.silicon(40), 33.0),
    System("NEP PbTe 512,000", lambda: published("pbte/gpumd_nep.txt"), lead_telluride, 33.0),
)  # fmt: skip

UNBUILT = (("NEP training on PbTe", 20.0, "s", "fits run on the CPU: the GPU has the gradient kernels and not the optimiser"),)


def rows(only: str = "", repeats: int = 9) -> Iterator[Row]:
    """Measure the cases whose name contains `only`, one row each."""
    missing = "" if torch.cuda.is_available() else "no GPU: torch finds none"
    for name, bar, unit, measure in cases():
        if only.lower() not in name.lower():
            continue
        if missing:
            yield Row(name, None, None, bar, unit, missing)
            continue
        try:
            yield measure(name, bar, unit, repeats)
        except FileNotFoundError as error:
            yield Row(name, None, None, bar, unit, str(error))
        except torch.OutOfMemoryError as error:
            yield Row(name, None, None, bar, unit, f"out of memory: {error}".partition("\n")[0])
        torch.cuda.empty_cache()
    for name, bar, unit, reason in UNBUILT:
        if only.lower() in name.lower():
            yield Row(name, None, None, bar, unit, reason)


Measure = Callable[[str, float | None, str, int], Row]


def cases() -> Iterator[tuple[str, float | None, str, Measure]]:
    """All rows: name, bar, unit, what measures."""
    yield "copy rate of the device", None, "TB/s", copy_row
    yield "matrix rate of the device, float32", None, "TFLOP/s", matrix_row
    for s in SYSTEMS:
        yield f"{s.name}: E, F, W", s.bar, "ns/atom", _of(s, force_row)
        if s.energy is not None:
            yield f"{s.name}: E, F, W, deterministic", None, "ns/atom", _of(s, deterministic_row)
            yield f"{s.name}: eager torch, E and F", None, "ns/atom", _of(s, eager_row)
            yield f"{s.name}: torch.compile, E and F", None, "ns/atom", _of(s, compiled_row)
        yield f"{s.name}: list of neighbours", None, "ns/atom", _of(s, list_row)
        yield f"{s.name}: training gradient / force call", 3.0, "ns/atom", _of(s, gradient_row)
    yield "SW 200: one step of dynamics in a CUDA graph", 60.0, "us", graph_row
    for n, size, bar in ((24, "108,000", None), (32, "260,000", 1.5)):
        yield f"mesh electrostatics, {size} ions, 1e-4", bar, "ms", partial(gpu_longrange.ions_row, n, seconds)
    yield "mesh electrostatics, 5,000 ions, 1e-4, in a CUDA graph", 0.1, "ms", partial(gpu_longrange.graph_row, 9, seconds)


def _of(system: System, measure: Callable[..., Row]) -> Measure:
    return lambda name, bar, unit, repeats: measure(system, name, bar, unit, repeats)


def seconds(work: Callable[[], object], repeats: int, inner: int = 5) -> float:
    """Median seconds of `work` on the device."""
    found = []
    for round_ in range(repeats + 1):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(inner):
            work()
        end.record()
        end.synchronize()
        if round_:
            found.append(start.elapsed_time(end) / 1e3 / inner)
    return statistics.median(found)


@cache
def copy_rate() -> float:
    """Bytes read and written in a second by a copy of 2 GB."""
    a = torch.empty(2**29, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.nbytes / seconds(lambda: b.copy_(a), 5)


def copy_row(name: str, bar: float | None, unit: str, repeats: int) -> Row:
    card = torch.cuda.get_device_properties(0)
    note = f"{card.name}, {card.multi_processor_count} multiprocessors, {card.total_memory / 2**30:.0f} GiB, torch {torch.__version__}"
    return Row(name, copy_rate() / 1e12, None, bar, unit, note)


def matrix_row(name: str, bar: float | None, unit: str, repeats: int) -> Row:
    a = torch.randn(8192, 8192, device="cuda")
    return Row(name, 2 * 8192**3 / seconds(lambda: a @ a, repeats) / 1e12, None, bar, unit, "8192^3, no TF32")


@cache
def loaded(system: System, deterministic: bool = False) -> tuple[DeviceModel, Evaluation]:
    """The model on the device with its crystal, run once."""
    model = DeviceModel(system.model(), "cuda", "float32", deterministic)
    evaluation = model.evaluation(model.prepare(system.atoms(), skin=SKIN))
    evaluation.run()
    if not bool(torch.isfinite(evaluation.energy).all()):
        raise ArithmeticError(f"The energy of {system.name} is not finite. Its time says nothing. Run tests/cuda first.")
    return model, evaluation


def force_row(system: System, name: str, bar: float | None, unit: str, repeats: int, deterministic: bool = False) -> Row:
    model, evaluation = loaded(system, deterministic)
    batch, kernel = evaluation.batch, evaluation.kernel
    time = seconds(evaluation.run, repeats) / batch.atoms
    listed = float(batch.count.sum()) / batch.atoms
    moved = (
        4 * listed + 3 * 32 + 24 + 4 * 16 + 3 * 24 + 8
    )  # bytes: list, sites, positions, forces and virials (zeroed, read, written), energy
    share = moved / copy_rate() / time
    note = (
        f"{1 / time:.3g} atom-steps/s; {listed:.0f} neighbours listed, skin {SKIN} Å; {kernel.rows} rows kept; "
        f"{moved:.0f} B/atom at least through memory: {100 * share:.0f} % of the copy rate; sites gathered from L2: {32 * listed:.0f} B/atom"
    )
    return Row(name, time * 1e9, None, bar, unit, note)


def deterministic_row(system: System, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    return force_row(system, name, bar, unit, repeats, deterministic=True)


def list_row(system: System, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    _, evaluation = loaded(system)
    batch = evaluation.batch
    build, look = seconds(batch.rebuilt, 3, 1), seconds(batch.look, repeats)
    note = f"{batch.sites - batch.atoms} images; looking whether it still holds: {look / batch.atoms * 1e9:.3g} ns/atom"
    return Row(name, build / batch.atoms * 1e9, None, bar, unit, note)


def gradient_row(system: System, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    model, evaluation = loaded(system)
    batch, kernel = evaluation.batch, model.kernel("gradient")
    buffers = kernel.buffers(batch)
    kernel.give(buffers, {"seed": 1.0, "seed_t": 1.0})
    moves = 0.01 * torch.randn(batch.sites, 3, dtype=torch.float64, device="cuda")

    def gradient() -> None:
        kernel.run(batch, buffers, model.numbers, moves=moves)
        buffers.gradient.sum(1)

    ours, peer = (seconds(work, repeats) / batch.atoms * 1e9 for work in (gradient, evaluation.run))
    return Row(name, ours, peer, bar, unit, f"{model.model.size} numbers, {buffers.threads} threads with a sum of their own")


def eager_row(system: System, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    return _by_torch(system, name, bar, unit, repeats, lambda f: f)


def compiled_row(system: System, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    return _by_torch(system, name, bar, unit, repeats, torch.compile)


def _by_torch(system: System, name: str, bar: float | None, unit: str, repeats: int, wrap: Callable) -> Row:
    assert system.energy is not None and system.small is not None
    atoms = system.small()
    found = peers_torch.edges(atoms, system.cutoff, system.triplets)
    edges = peers_torch.Edges(**{f.name: getattr(found, f.name).to("cuda") for f in dataclasses.fields(found)})
    x = torch.from_numpy(atoms.positions).to("cuda").requires_grad_()
    theta = torch.tensor(system.values, dtype=torch.float64, device="cuda")
    energy = wrap(lambda y: system.energy(y, theta, edges))  # type: ignore[misc]
    time = seconds(lambda: torch.autograd.grad(energy(x), x), repeats, 1) / len(atoms)
    _, ours = loaded(system)
    note = f"float64, {len(atoms)} atoms, no skin, no virial; the peer is our float32 kernel"
    return Row(name, time * 1e9, seconds(ours.run, repeats) / ours.batch.atoms * 1e9, bar, unit, note)


def graph_row(name: str, bar: float | None, unit: str, repeats: int) -> Row:
    """Velocity Verlet of 200 atoms, one step captured once and replayed; the list is looked at in every step, on the device."""
    model = DeviceModel(models.stillinger_weber(), "cuda")
    batch = model.prepare(ase.build.bulk("Si", "diamond", a=5.43, cubic=True) * (5, 5, 1), skin=SKIN)
    evaluation = model.evaluation(batch)
    velocity = 0.01 * torch.randn(batch.atoms, 3, dtype=torch.float64, device="cuda")
    half = 0.5 * DT / MASS

    def step() -> None:
        velocity.add_(evaluation.slopes, alpha=half)
        batch.positions.add_(velocity, alpha=DT)
        evaluation.run()
        velocity.add_(evaluation.slopes, alpha=half)
        batch.look()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    time = seconds(graph.replay, repeats, STEPS)
    eager = seconds(step, repeats, 50)
    return Row(name, time * 1e6, None, bar, unit, f"{eager * 1e6:.0f} us without a graph; stale list at the end: {bool(batch.stale)}")
