"""What a fit may be asked for, checked before anything is built."""

from __future__ import annotations

import math
from typing import Any

from composer.algebra import is_number
from composer.errors import AlgebraError, DataError, check_whole
from composer.fit.weights import Weights
from composer.model import Model

METHODS = ("auto", "linear", "varpro", "lm", "lbfgs", "adam", "newton")
IN_EPOCHS = ("auto", "adam", "newton")
LARGE = 2000  # numbers beyond which Jacobians are not formed


def check_settings(
    model: Any,
    weights: Any,
    method: Any,
    seed: Any,
    folds: Any,
    ridge: Any,
    restarts: Any,
    epochs: Any,
    neutrality: Any,
) -> None:
    """Refuse settings under which nothing can be fitted. Arguments: those of `fit`. Errors: DataError, and AlgebraError for no model."""
    if method not in METHODS:
        raise DataError(f"A fit by {method!r} was asked for", f"Known are {', '.join(METHODS)}", "Use one of these")
    if not isinstance(model, Model):
        raise AlgebraError(
            f"A fit of {model!r} was asked for", "It is no model", "Write composer.fit(composer.compile(expr, species), data)"
        )
    if weights is not None and not isinstance(weights, Weights):
        raise DataError(
            "A fit was asked for", f"Its weights are {weights!r}", "Write weights=composer.Weights(energy=0.003, forces=0.1, stress=0.03)"
        )
    check_whole("A fit", seed=(seed, 0), folds=(folds, 0), restarts=(restarts, 0))
    if ridge is not None and not (is_number(ridge) and 0 <= ridge < math.inf):
        raise DataError(
            f"A fit with ridge={ridge!r} was asked for",
            "It is a finite number from 0 on",
            "Leave ridge out: folds choose it; or write 1e-8",
        )
    _check_epochs(method, epochs)
    first_order = epochs is not None or method in ("lbfgs", "adam") or (method == "auto" and model.size > LARGE)
    if neutrality is not None and (first_order or not is_number(neutrality) or not neutrality > 0):
        raise DataError(
            f"A fit with neutrality={neutrality} was asked for",
            "It is a charge above zero, and known to linear, varpro and lm",
            "Write neutrality=0.01 and leave epochs out",
        )


def _check_epochs(method: str, epochs: Any) -> None:
    if epochs is None and method == "newton":
        raise DataError("A fit by Newton steps was asked for", "Their number was not given", "Write epochs=50")
    if epochs is None:
        return
    check_whole("A fit", epochs=(epochs, 1))
    if method not in IN_EPOCHS:
        found = "Epochs are passes of Adam, or second-order steps"
        raise DataError(f"A fit by {method!r} in epochs was asked for", found, 'Write method="adam" or method="newton"')


__all__ = ["LARGE", "METHODS", "check_settings"]
