"""Interatomic potentials as expressions of physics terms: compiled, fitted, judged by Fisher information, searched.

    data = composer.read_data("silicon.xyz.xz")
    model = composer.compile(ZBL() + Pair(cutoff=6.0), species=["Si"])
    fitted = composer.fit(model, data)

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from composer import longrange
    from composer.algebra import Expression, Scale, Term, exp, log1p, sqrt, tanh
    from composer.calculator import Calculator, ExtrapolationWarning
    from composer.data import Data, Frame, read_data
    from composer.demo import demo
    from composer.dynamics import repulsive, survives
    from composer.errors import AlgebraError, BackendError, ComposerError, DataError, UnitError
    from composer.evaluate import evaluate
    from composer.export.nepin import NepIn
    from composer.export.validation import validate
    from composer.fisher import fisher, suggest
    from composer.fit import Fitted, Weights, fit
    from composer.model import Model, compile
    from composer.properties import properties
    from composer.runtime.threads import set_threads
    from composer.search import search

__version__ = "0.1.0"
__composer_api__ = 1

_NAMES = {
    "algebra": "exp sqrt tanh log1p Scale Expression Term",
    "calculator": "Calculator ExtrapolationWarning",
    "data": "Data Frame read_data",
    "demo": "demo",
    "dynamics": "repulsive survives",
    "errors": "AlgebraError BackendError ComposerError DataError UnitError",
    "evaluate": "evaluate",
    "export.validation": "validate",
    "fisher": "fisher suggest",
    "fit": "Fitted Weights fit",
    "model": "Model compile",
    "properties": "properties",
    "runtime.threads": "set_threads",
    "search": "search",
}
_MODULES = ("longrange",)  # offered as they are
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "AlgebraError",
    "BackendError",
    "Calculator",
    "compile",
    "ComposerError",
    "Data",
    "DataError",
    "demo",
    "doctor",
    "evaluate",
    "exp",
    "expression",
    "Expression",
    "ExtrapolationWarning",
    "fisher",
    "fit",
    "Fitted",
    "Frame",
    "longrange",
    "log1p",
    "Model",
    "parse_expression",
    "properties",
    "read_data",
    "read_model",
    "repulsive",
    "Scale",
    "search",
    "set_threads",
    "sqrt",
    "suggest",
    "survives",
    "tanh",
    "Term",
    "UnitError",
    "validate",
    "Weights",
]


def expression(text: str) -> Any:
    """The expression of a JSON text written by `expr.json()`; every term of `terms` is known, nothing is evaluated."""
    _companion("terms")
    return import_module("composer.algebra").expression(text)


def parse_expression(text: str) -> Any:
    """The expression of a line such as "ZBL() + Pair(cutoff=6)", read by a whitelist over Python's syntax tree."""
    _companion("terms")
    return import_module("composer.formula").parse_expression(text)


def read_model(path: str | Path) -> Model:
    """The model of a file written by `model.save(path)`, or of a nep.txt file; every term of `terms` is known, nothing is evaluated.

    A nep.txt file of charges, dipoles or polarizabilities gives a model of these (see `composer.export.nep_response`).
    Errors: DataError for a file that is missing, foreign, cut or changed.
    """
    _companion("terms")
    if _starts(Path(path), b"nep"):
        return import_module("composer.export.nep_response").read_any(path)
    return import_module("composer.modelfile").read_model(path, import_module("composer.model").Model)


def read_nep_in(path: str | Path) -> NepIn:
    """The expression, species and weights that a nep.in of GPUMD's trainer asks for; see `composer.export.nepin`."""
    _companion("terms")
    return import_module("composer.export.nepin").read_nep_in(path)


def _starts(path: Path, text: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(text)) == text


def doctor() -> dict[str, str]:
    """What stands ready on this machine: versions, compiler, flags, cache, threads, packages of the same name; never raises."""
    report = {"composer": __version__, "folder": str(Path(__file__).parent), "python": sys.version.split()[0]}
    problems = []
    for name in ("terms", "analysis"):
        try:
            report[name] = str(Path(str(_companion(name).__file__)).parent)
        except ImportError as error:
            problems.append(str(error))
    for name in ("torch", "numpy", "ase", "vesin"):
        report[name] = _version(name)
    report["threads"] = str(import_module("composer.runtime.threads").count())
    report |= import_module("composer.runtime").doctor()
    problems += [report.pop("problem")] if "problem" in report else []
    return report | ({"problem": " ".join(problems)} if problems else {})


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "missing"


def _companion(name: str) -> ModuleType:
    """The package `terms` or `analysis`, checked to be ours and not another one of that name."""
    from composer.errors import BackendError

    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        module = ModuleType(name)
    place = getattr(module, "__file__", None)
    ours = place is not None and Path(place).resolve().parents[1] == Path(__file__).resolve().parents[1]
    if ours and (name != "terms" or getattr(module, "__composer_api__", None) == __composer_api__):
        return module
    raise type("ShadowedPackage", (BackendError, ImportError), {})(
        f"The package {name} of composer was to be imported",
        f"Python found {place or 'none'} instead of the one beside {Path(__file__).parent}",
        f"Rename or uninstall the other {name}, or start Python in another folder; pip install --force-reinstall composer-potentials",
    )


class _Face(ModuleType):
    """The module `composer` itself: a verb wins over the subpackage of the same name, whichever is imported first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in _MODULES:
            return import_module(f"composer.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'composer' has no attribute {name!r}; it offers {', '.join(__all__)}")
        if _HOME[name] in ("fit", "fisher", "search", "demo"):
            _companion("analysis")
        if name in ("search", "demo", "validate"):
            _companion("terms")  # the default vocabulary is made of them; so are the models of exports
        value = getattr(import_module(f"composer.{_HOME[name]}"), name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Face
