"""Error bars of a network on PbTe: Fisher information of the last layer, of all numbers, and an ensemble, on frames that were held out.

`python -m benchmarks.uncertainty train --out members.npz` trains the members, `python -m benchmarks.uncertainty judge --out members.npz` compares.
"""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import benchmarks.timing  # noqa: F401  (one thread, before numpy and torch)

import numpy as np  # isort: skip
import torch  # isort: skip
import typer  # isort: skip
from scipy.stats import spearmanr  # isort: skip

import analysis
import composer
from benchmarks.training import BATCH, FOLDS, MODEL, frames
from composer.data import Data
from composer.fit.recipe import Recipe
from composer.fit.scaling import scaled
from composer.fit.training import train

LEVEL = 0.68


class Part(StrEnum):
    """What to do."""

    train = "train"
    judge = "judge"


def start(seed: int) -> Any:
    """The model at its default start; seeds above 0 shuffle the numbers of every table."""
    model = composer.compile(MODEL, ["Pb", "Te"], quiet=True)
    random = np.random.default_rng(seed)
    fitted = [e for e in model.entries if e.free and e.name != "E0"]
    tables = {e.name: random.permutation(model.parameters[e.name].numpy().ravel()) for e in fitted} if seed else {}
    return scaled(model.with_parameters(tables), frames(FOLDS - 1)[0])


def members(path: Path, count: int, steps: int) -> None:
    """Train, from different starts, the same steps each."""
    learn, held = frames(FOLDS - 1)
    found: dict[str, Any] = {}
    for seed in range(count):
        trained = train(start(seed), learn, held, Recipe(epochs=steps, batch=BATCH), seed, method="newton")
        best = min(trained.history, key=lambda e: e.validation_loss)
        print(f"member {seed}: {best}", flush=True)
        found[f"flat{seed}"] = trained.model.flat.numpy()
        np.savez(path, **found)


def judge(path: Path) -> None:
    """Spread beside error: rank correlation by atom, and coverage in half of the held-out frames with the factor of the other half."""
    learn, held = frames(FOLDS - 1)
    model, flats = start(0), list(np.load(path).values())
    models = [model.with_parameters(torch.from_numpy(flat)[model.free]) for flat in flats]
    for one, flat in zip(models, flats, strict=True):
        one.flat = torch.from_numpy(flat)  # with the scales of its inputs
    first = models[0]
    error = first(held).forces.numpy() - np.concatenate([f.forces for f in held])
    frame = np.repeat(np.arange(len(held)), [len(f.symbols) for f in held])
    spreads = {"ensemble": np.std([m(held).forces.numpy() for m in models], axis=0, ddof=1)}
    seconds = {}
    for parameters in ("last layer", "all"):
        clock = time.process_time()
        report = composer.fisher(first, Data(learn), parameters=parameters)
        root = report.covariance_root
        spreads[f"Fisher, {parameters}"] = analysis.propagate(report.model.jacobian(held).forces.numpy(), root)
        seconds[parameters] = time.process_time() - clock
        if parameters == "last layer":
            grades = report.grades(held)
            print(f"grades: held out {np.median(grades):.2f} (median), {grades.max():.2f} (largest)", flush=True)
            rank = spearmanr(grades, np.linalg.norm(error, axis=1)).statistic
            print(f"grades and force errors: rank correlation {rank:.2f}", flush=True)
        _say(f"Fisher, {parameters}", spreads[f"Fisher, {parameters}"], error, frame)
    _say(f"ensemble of {len(models)}", spreads["ensemble"], error, frame)
    noise = float(np.sqrt(np.mean(error**2)))
    for name, spread in spreads.items():
        _say(f"{name}, with noise", np.hypot(spread, noise), error, frame)
    print({k: f"{v:.0f} s" for k, v in seconds.items()})


def _say(name: str, spread: np.ndarray, error: np.ndarray, frame: np.ndarray) -> None:
    rank = spearmanr(np.linalg.norm(spread, axis=1), np.linalg.norm(error, axis=1)).statistic
    half = frame < frame.max() / 2
    scales = [analysis.conformal_scale(error[h].ravel(), spread[h].ravel(), LEVEL) for h in (half, ~half)]
    found = np.mean([analysis.covered(error[~h].ravel(), spread[~h].ravel(), s) for h, s in zip((half, ~half), scales, strict=True)])
    scale = float(np.mean(scales))
    loss = float(np.mean(0.5 * (error / (scale * spread)) ** 2 + np.log(scale * spread)))
    print(
        f"{name}: median {1e3 * np.median(spread):.1f} meV/Å, scale {scale:.2f}, covers {found:.0%} of {LEVEL:.0%}, rank {rank:.2f}, nll {loss:.3f}",
        flush=True,
    )


def main(
    part: Part,
    out: Annotated[Path, typer.Option(help="file of the members")] = Path("members.npz"),
    count: Annotated[int, typer.Option(help="members of the ensemble")] = 4,
    steps: Annotated[int, typer.Option(help="second-order steps of each")] = 20,
) -> None:
    """Train the members, or judge the error bars."""
    members(out, count, steps) if part is Part.train else judge(out)


if __name__ == "__main__":
    typer.run(main)
