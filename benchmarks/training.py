"""Loss against processor time on PbTe: Adam and Newton of composer, evolution strategy, TorchNEP.

`python -m benchmarks.training adam --out curves.json` adds a curve to a file, `python -m benchmarks.training picture --out curves.json` draws
all of them. The data (20 frames to learn from, 5 of a fold held out) are read from the reference folder and never copied. TorchNEP
(GPL) is used when it is installed, or where COMPOSER_TORCHNEP names the folder of its package.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import benchmarks.timing  # noqa: F401  (one thread, before numpy and torch)

import numpy as np  # isort: skip
import torch  # isort: skip
import typer  # isort: skip

import composer
from benchmarks.nep import data
from benchmarks.snes import POPULATION, Snes
from composer.fit.adam import Adam
from composer.fit.loss import rmse
from composer.fit.recipe import Epoch, Recipe
from composer.fit.scaling import scaled
from composer.fit.training import train
from terms import NEP

Curve = list[tuple[float, float, float, float, float]]  # processor seconds; train E, F; held-out E, F (eV/atom, eV/Å)
MODEL = NEP(cutoff=(8.0, 4.0), n_max=(4, 4), basis=(8, 8), l_max=(4, 2, 0), neurons=30)
BATCH, SEED, FOLDS = 5, 0, 5


class Method(StrEnum):
    """What trains, or `picture`."""

    adam = "adam"
    newton = "newton"
    snes = "snes"
    torchnep = "torchnep"
    picture = "picture"


class Enough(Exception):
    """The time is over."""


def frames(fold: int) -> tuple[list[Any], list[Any]]:
    """20 frames to learn from, and the 5 of a fold that are held out; every frame is a group of its own."""
    found = list(composer.read_data(data() / "pbte/train.xyz", quiet=True))
    order = np.random.default_rng(0).permutation(len(found))
    held = np.array_split(order, FOLDS)[fold]
    return [found[n] for n in order if n not in held], [found[n] for n in held]


def ours(method: str, fold: int, seconds: float, epochs: int, ridge: float) -> Curve:
    """Adam or Newton from the default start; compiling is not counted."""
    learn, held = frames(fold)
    model = scaled(composer.compile(MODEL, ["Pb", "Te"], quiet=True), learn)
    model.build(model.prepare(learn[:BATCH]), ("forces", "gradient", "tangent", "parameters"))
    curve, clock = [], stopwatch(seconds)

    def note(epoch: Epoch) -> None:
        curve.append((clock(), *epoch.train[:2], *epoch.validation[:2]))
        print(f"{curve[-1][0]:.1f} s  {epoch}", flush=True)

    try:
        train(model, learn, held, Recipe(epochs=epochs, batch=BATCH, ridge=ridge), SEED, report=note, method=method)
    except Enough:
        pass
    return curve


def snes(fold: int, seconds: float) -> Curve:
    """Published defaults: 50 trials a generation on all frames, root mean squares, lambda 1 for E and F, automatic regularisation."""
    learn, held = frames(fold)
    model = scaled(composer.compile(MODEL, ["Pb", "Te"], quiet=True), learn)
    model.build(model.prepare(learn[:BATCH]), ("forces",))
    judge = Adam(model, learn, held, Recipe(batch=BATCH))
    strength = np.sqrt(model.size * 1e-6 / 2)

    def errors(theta: np.ndarray, parts: list[Any]) -> tuple[float, float]:
        found = [judge.misses(judge.at(theta), part, len(learn))[0] for part in parts]
        return rmse(np.sum([f.squares for f in found], axis=0))[:2]

    def settled(theta: np.ndarray) -> np.ndarray:
        theta = theta.copy()
        judge.solve_references(theta, judge.energies(theta))
        return theta

    def loss(theta: np.ndarray) -> float:
        held_to = strength * (np.abs(theta[2:]).mean() + np.sqrt(np.mean(theta[2:] ** 2)))
        return sum(errors(settled(theta), judge.batches)) + float(held_to)

    curve, clock, search = [], stopwatch(seconds), Snes.start(model.size, SEED)
    try:
        while True:
            search.generation(loss)
            at = settled(search.mean)
            curve.append((clock(), *errors(at, judge.batches), *errors(at, judge.held)))
    except Enough:
        print(f"{len(curve)} generations of {POPULATION} trials")
    return curve


def torchnep(fold: int, seconds: float) -> Curve:
    """TorchNEP, eager and with analytical forces (its defaults on a CPU) but in float64, with its own recipe in as many epochs as fit."""
    if folder := os.environ.get("COMPOSER_TORCHNEP"):
        sys.path.append(folder)
    from torchnep import train_nep

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        learn, held = (Path(home) / name for name in ("learn.xyz", "held.xyz"))
        for path, part in zip((learn, held), frames(fold), strict=True):
            path.write_text("".join(_extended(f) for f in part))
        settings = {"type": "2 Pb Te", "version": 4, "cutoff": "8 4", "n_max": "4 4", "basis_size": "8 8", "l_max": "4 2 0", "neuron": 30}

        def run(epochs: int) -> tuple[list[list[float]], float]:
            (Path(home) / "nep.in").write_text("".join(f"{k} {v}\n" for k, v in {**settings, "batch": BATCH, "epoch": epochs}.items()))
            out, clock = Path(home) / str(epochs), time.process_time()
            train_nep(
                str(Path(home) / "nep.in"), str(learn), str(out), "cpu", "float64", restart=False, run_seed=SEED,
                valid_file=str(held), prediction_interval=0,
            )  # fmt: skip
            lines = [line.split() for line in (out / "loss.out").read_text().splitlines() if not line.startswith("#")]
            return [[float(x) for x in line] for line in lines], time.process_time() - clock

        _, short = run(2)
        _, longer = run(8)
        count = int(seconds / ((longer - short) / 6))
        rows, whole = run(count)
        each = (whole - short) / (count - 2)  # what comes before and after the epochs is the same in all runs
    print(f"{each:.3f} s for an epoch")
    return [(each * (n + 1), r[2], r[3], r[6], r[7]) for n, r in enumerate(rows)]


def _extended(frame: Any) -> str:
    """A frame in the extended xyz that NEP programs read."""
    cell = " ".join(f"{x:.10f}" for x in np.asarray(frame.cell).ravel())
    head = f'{len(frame.symbols)}\nenergy={frame.energy:.10f} lattice="{cell}" properties=species:S:1:pos:R:3:force:R:3\n'
    rows = zip(frame.symbols, frame.positions, frame.forces, strict=True)
    return head + "".join(f"{s} {x[0]:.10f} {x[1]:.10f} {x[2]:.10f} {f[0]:.10f} {f[1]:.10f} {f[2]:.10f}\n" for s, x, f in rows)


def stopwatch(seconds: float) -> Callable[[], float]:
    """Processor seconds since now; raises Enough when they are used up."""
    start = time.process_time()

    def read() -> float:
        if (found := time.process_time() - start) > seconds:
            raise Enough
        return found

    return read


def picture(path: Path) -> Path:
    """Held-out and training errors of the forces against time, all curves of a file."""
    import matplotlib.pyplot as plt

    names = {"adam": "composer, Adam", "newton": "composer, second order", "snes": "evolution strategy (SNES)", "torchnep": "TorchNEP"}
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for number, (name, curve) in enumerate(json.loads(path.read_text()).items()):
        t, _, learned, _, held = np.array(curve).T
        axes.loglog(t, 1e3 * held, color=f"C{number}", label=names[name])
        axes.loglog(t, 1e3 * learned, color=f"C{number}", ls=":", lw=1)
    axes.set(xlabel="seconds of one core", ylabel="RMSE of forces (meV/Å)", title="NEP on PbTe: held out (full lines), training (dotted)")
    axes.set_yticks([30, 40, 60, 100, 200, 400, 1000], ["30", "40", "60", "100", "200", "400", "1000"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path.with_suffix(".png"), dpi=130)
    return path.with_suffix(".png")


def main(
    method: Method,
    out: Annotated[Path, typer.Option(help="file of the curves")] = Path("curves.json"),
    seconds: Annotated[float, typer.Option(help="of the processor, compiling not counted", max=1200)] = 200,
    epochs: Annotated[int, typer.Option(help="Adam: of its schedule; Newton: most steps")] = 2000,
    ridge: Annotated[float, typer.Option(help="strength of |theta|^2 in the loss")] = 0.0,
    fold: Annotated[int, typer.Option(min=0, max=FOLDS - 1, help="which fifth of the frames is held out")] = FOLDS - 1,
) -> None:
    """Train, and add the curve to the file; or draw the file."""
    if method is Method.picture:
        print(picture(out))
        return
    peers = {Method.snes: snes, Method.torchnep: torchnep}
    found = peers[method](fold, seconds) if method in peers else ours(method, fold, seconds, epochs, ridge)
    known = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps({**known, method.value: found}) + "\n")
    best = min(found, key=lambda row: row[4])
    print(f"{method}: best held out {1e3 * best[4]:.1f} meV/Å, {1e3 * best[3]:.2f} meV/atom at {best[0]:.0f} s")


if __name__ == "__main__":
    typer.run(main)
