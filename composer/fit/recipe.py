"""How to train, and what a training tells."""

from __future__ import annotations

from dataclasses import dataclass

from composer.data import Frame
from composer.errors import DataError
from composer.fit.weights import Squares
from composer.model import Model


@dataclass(frozen=True)
class Recipe:
    """How to train.

    The loss of C frames is (energy/C) sum ((E - E_ref)/N)^2 + (forces/C) sum |F - F_ref|^2/(3 N) + (virial/(6 C)) sum |W - W_ref|^2/N^2 over six
    components, plus ridge |theta|^2 without E0. epochs: passes of Adam, or steps of Newton; batch, structures of a step of Adam; its rate,
    reached after `warmup` epochs from zero and falling as a cosine to `last`; clip, largest norm of the gradient in units of its running mean;
    patience, epochs without a better validation loss after which training ends (None: never); minutes between checkpoints.
    Source: H. Huang et al., Comput. Phys. Commun. 320, 109994 (2026), for the loss; `moments.py` for Adam.
    """

    epochs: int = 200
    batch: int = 5
    rate: float = 1e-2
    last: float = 1e-5
    warmup: int = 1
    energy: float = 1.0
    forces: float = 1.0
    virial: float = 0.1
    ridge: float = 1e-6
    clip: float = 10.0
    patience: int | None = None
    minutes: float = 3.0

    def __post_init__(self) -> None:
        sizes, weights = (self.epochs, self.batch, self.rate, self.last, self.clip), (self.energy, self.forces, self.virial)
        if min(sizes) <= 0 or min(*weights, self.warmup, self.ridge) < 0 or sum(weights) <= 0:
            raise DataError(f"{self} was asked for", "A size is not above zero, or no part of the loss has a weight", "Mend the numbers")

    def squares(self, frame: Frame) -> Squares:
        """What the squares of a frame count in its loss, of which a training takes the mean over frames."""
        return Squares(self.energy, self.forces / (3 * len(frame.symbols)), self.virial / 6)


@dataclass(frozen=True)
class Epoch:
    """One pass: its number, the loss, and errors (eV/atom, eV/Å, eV/atom; NaN where there are none) on training and validation frames."""

    number: int
    loss: float
    train: tuple[float, float, float]
    validation: tuple[float, float, float]
    validation_loss: float

    def __str__(self) -> str:
        sides = [f"E {1e3 * e:.2f} meV/atom, F {1e3 * f:.1f} meV/Å" for e, f, _ in (self.train, self.validation)]
        return f"epoch {self.number:4d}  loss {self.loss:.3e}  train {sides[0]}  validation {sides[1]}"


@dataclass(frozen=True)
class Trained:
    """A trained model, its history, and why training ended."""

    model: Model
    history: list[Epoch]
    reason: str
