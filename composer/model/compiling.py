"""From an expression to a model: on the CPU, or on a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from composer.algebra import Expression
from composer.errors import BackendError, DataError
from composer.model.device import DeviceModel
from composer.model.model import Model


@overload
def compile(expr: Expression, species: Sequence[str], parameters: Mapping[str, Any] | None = None, quiet: bool = False) -> Model: ...


@overload
def compile(
    expr: Expression,
    species: Sequence[str],
    parameters: Mapping[str, Any] | None = None,
    quiet: bool = False,
    *,
    device: str,
    dtype: str = "float32",
    deterministic: bool = False,
) -> DeviceModel: ...


def compile(
    expr: Expression,
    species: Sequence[str],
    parameters: Mapping[str, Any] | None = None,
    quiet: bool = False,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    deterministic: bool = False,
) -> Model | DeviceModel:
    """Make a model of an expression for these species.

    Arguments: expr, an expression of terms; species, chemical symbols; parameters, values by name to start from; quiet, print nothing;
    device, "cpu" or a GPU such as "cuda"; dtype on a GPU, "float32" or "float64"; deterministic, forces on a GPU that do not depend on the
    order of its threads.
    Returns: a Model, or on a GPU a DeviceModel. Kernels are built when they are first needed.
    Errors: AlgebraError when the expression has no terms, an unknown species or a constant at its root; BackendError without that device.
    """
    if isinstance(species, str) or not isinstance(species, Iterable):
        found = f"Its species are {species!r}, and not a list of symbols"
        raise DataError("A model was to be compiled", found, f"Write species={re.findall('[A-Z][a-z]*', str(species)) or ['Si']}")
    model = Model(expr, species)
    if not quiet:
        print(model.describe())
    model = model if parameters is None else model.with_parameters(parameters)
    if device == "cpu":
        if dtype not in (None, "float64"):
            raise BackendError(
                f"Kernels with {dtype} were asked for on the CPU", "They have float64 alone", "Leave dtype out, or write device='cuda'"
            )
        return model
    return DeviceModel(model, device, dtype or "float32", deterministic)


__all__ = ["compile"]
