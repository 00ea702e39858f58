"""Error against cost of all long-range codes in one picture: python -m benchmarks.longrange_picture docs/pictures/longrange.png"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.timing import interleave, wall  # first: it fixes the number of threads

import matplotlib  # isort: skip
import numpy as np  # isort: skip
import torch  # isort: skip

from benchmarks import peers_longrange as peers  # isort: skip
from benchmarks.longrange import STEPS, Salt, error  # isort: skip
from composer import longrange  # isort: skip

Curve = list[tuple[float, float]]  # relative force error, us per ion
# cutoff (Å) and alpha (1/Å) for real-space errors of about 1e-3, 1e-4, 1e-5 and 1e-7 of the r.m.s. force
SPLITS = ((8.0, 0.355), (10.0, 0.33), (10.0, 0.37), (12.0, 0.40))


def curves(n: int = 5, repeats: int = 5) -> dict[str, Curve]:
    """Error and cost of every code that is installed, for 8 n^3 ions. Settings of peers are few and chosen by hand, ours by the accuracy."""
    (x, q, side), (tx, tq, th) = Salt(n).arrays(), Salt(n).tensors()
    exact = longrange.prepare(tx, th, accuracy=1e-11, method="mesh", cutoff=9.0).evaluate(tx, tq).forces.numpy()
    points = list(_points(x, q, side, tx, tq, th))
    seconds = interleave({str(n): timer for n, (_, _, timer) in enumerate(points)}, repeats)  # together: a slow phase meets all
    found: dict[str, Curve] = {}
    for n, (code, forces, _) in enumerate(points):
        found.setdefault(code, []).append((error(forces, exact), seconds[str(n)] / len(q) * 1e6))
    return found


def _points(
    x: np.ndarray, q: np.ndarray, side: float, tx: torch.Tensor, tq: torch.Tensor, th: torch.Tensor
) -> Iterator[tuple[str, np.ndarray, Callable[[], float]]]:
    """Name, forces and timer of each setting."""
    for accuracy in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
        sums = longrange.prepare(tx, th, accuracy=accuracy, skin=0.5)
        yield "composer", sums.evaluate(tx, tq, th).forces.numpy(), wall(lambda s=sums: s.evaluate(tx, tq, th), STEPS)
    for (cutoff, alpha), order, spacing in zip(SPLITS, (5, 7, 7, 7), (1.4, 1.175, 0.85, 0.55), strict=True):
        pppm = peers.Pppm(x, q, side, cutoff, alpha, order, 2 * round(side / spacing / 2))
        yield "LAMMPS pppm", pppm.forces, lambda p=pppm: p.seconds(STEPS)
    if peers.present("openmm"):
        for (cutoff, alpha), spacing in zip(SPLITS[:3], (1.2, 0.8, 0.6), strict=True):
            context = peers.OpenMM(x, q, side, cutoff, alpha, 2 * round(side / spacing / 2))
            yield "OpenMM CPU (float32, no virial)", context.forces, wall(context, STEPS)
    if peers.present("torchpme"):
        for (cutoff, alpha), mesh in zip(SPLITS, (32, 32, 64, 128), strict=True):
            p3m = peers.TorchPme(x, q, side, cutoff, alpha, 5, mesh)
            yield "torch-pme P3M", p3m().numpy(), wall(p3m)


def draw(found: dict[str, Curve], path: Path) -> None:
    """The picture: down and left is better."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for (code, points), marker in zip(found.items(), "osD^", strict=False):
        errors, costs = zip(*sorted(points), strict=True)
        axes.loglog(errors, costs, marker=marker, label=code)
    axes.set(xlabel="relative force error", ylabel="time per ion, µs (one thread)")
    axes.set_title("1000 ions of shaken rock salt: energy, forces, virial, potentials", fontsize=10)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measured = curves()
    for name, curve in measured.items():
        print(name, *(f"{e:.1e}: {c:.2f}" for e, c in sorted(curve)))
    draw(measured, Path(sys.argv[1]))
