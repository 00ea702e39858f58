"""Training in epochs, for models with thousands of numbers: by Adam over mini-batches, or by second-order steps on all frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from composer.data import Frame
from composer.fit.adam import Adam
from composer.fit.newton import Newton
from composer.fit.recipe import Epoch, Recipe, Trained
from composer.model import Model

TRAININGS = {"adam": Adam, "newton": Newton}


def train(
    model: Model,
    frames: Sequence[Frame],
    validation: Sequence[Frame] = (),
    recipe: Recipe | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    report: Callable[[Epoch], None] = lambda epoch: None,
    method: str = "adam",
) -> Trained:
    """Train the free numbers of a model; E0 is solved from the energies, never learned.

    Arguments: model, the start; frames to learn from; validation frames, by which the best epoch is chosen (the training frames if there are
    none); recipe; seed of the order of batches and of samples; checkpoint, a file from which a run that was stopped goes on with the same
    numbers; report, called after each epoch; method "adam" or "newton". Returns: Trained, the same for the same seed. Errors: DataError
    for frames without energies, or a checkpoint of another run.
    """
    return TRAININGS[method](model, list(frames), list(validation), recipe or Recipe(), seed, checkpoint, report).run()


__all__ = ["TRAININGS", "Epoch", "Recipe", "Trained", "train"]
