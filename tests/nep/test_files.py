"""nep.txt files: read, written, refused. T1, T5, ... are the acceptance tests of `theory/nep.md`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import composer
from composer.errors import AlgebraError, DataError
from composer.export.nep import contents, writable
from composer.export.nepfile import parse, text
from composer.model import Model
from terms import NEP, ZBL, Pair
from tests.nep.random_files import random_file

FORMS = {
    "nep3": {"version": 3},
    "nep4": {},
    "nep5": {"version": 5},
    "fixed zbl": {"zbl": (1.0, 2.0)},
    "zbl by radii": {"zbl": (0.0, 2.5, 0.7), "version": 5},
    "zbl by pair": {"zbl": (0.0, 0.0), "species": ("Cu", "W", "Al"), "version": 3},
    "cutoffs by species": {"cutoffs": ((5.0, 4.0), (6.0, 4.5))},
    "all invariants": {"l_max": (4, 2, 1, 1, 1, 1, 1)},
}


def written(tmp_path: Path, **form: object) -> Path:
    path = tmp_path / "nep.txt"
    path.write_text(text(random_file(**form)))  # type: ignore[arg-type]
    return path


def same(one: Path, other: Path) -> None:
    """Equal headers and numbers, as text, but for zero with a sign and the last digit of reference energies."""
    a, b = one.read_text().split(), other.read_text().split()
    assert len(a) == len(b)
    differing = [(x, y) for x, y in zip(a, b) if x != y and f"{float(x):g}" != y]  # 6.0 and 6 in headers
    for x, y in differing:
        assert abs(float(x) - float(y)) <= 2e-7 * abs(float(x))
    assert len(differing) <= 4


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_t1_what_is_read_and_written_is_the_same_file(tmp_path: Path, form: dict) -> None:
    first = written(tmp_path, **form)
    model = composer.read_model(first)
    same(first, model.export(tmp_path / "again.txt").folder)
    again = composer.read_model(tmp_path / "again.txt")
    assert again.expression == model.expression and again.species == model.species
    for name, table in model.parameters.items():
        np.testing.assert_allclose(again.parameters[name].numpy(), table.numpy(), rtol=2e-7, atol=1e-7)


RESPONSES = {
    "charges, mode 1": {"kind": "charge1"},
    "charges, mode 2": {"kind": "charge2", "zbl": (1.0, 2.0), "version": 3},
    "dipole": {"kind": "dipole", "species": ("Al",)},
    "polarizability": {"kind": "polarizability", "version": 3},
}


@pytest.mark.parametrize("form", RESPONSES.values(), ids=RESPONSES)
def test_t1_charges_dipoles_and_polarizabilities_are_written(tmp_path: Path, form: dict) -> None:
    """Every number as it was read, and an Export that says what the file holds and how far it is from the model."""
    first = written(tmp_path, **form)
    made = composer.read_model(first).export(tmp_path / "again.txt")
    same(first, made.folder)
    assert str(composer.read_model(first)) in str(made)
    assert form["kind"] in str(made) and "numbers with 8 digits" in str(made) and made.checks and max(made.checks.values()) < 1e-12
    with pytest.raises(AlgebraError, match="nep.txt alone"):
        composer.read_model(first).export(tmp_path / "folder", target="lammps")
    with pytest.raises(DataError, match="cannot be written"):
        composer.read_model(first).export(first / "nep.txt")


def test_two_networks_of_a_file_share_descriptors(tmp_path: Path) -> None:
    found = composer.read_model(written(tmp_path, kind="polarizability"))
    other = found.scalar.with_parameters({"NEP.radial_scaler": 2 * found.scalar.parameters["NEP.radial_scaler"]})  # type: ignore[attr-defined]
    with pytest.raises(AlgebraError, match="descriptors of its two networks differ"):
        replace(found, scalar=other).export(tmp_path / "no.txt")
    assert not (tmp_path / "no.txt").exists()


def test_t1_published_files_are_written_as_they_were(shared: Path, tmp_path: Path) -> None:
    """Every file of the reference data but the one of an old kind."""
    found = [path for path in shared.rglob("*nep*.txt") if "Deposition" not in path.name] + [*shared.glob("models/*_2022_*.txt")]
    assert len(found) >= 23
    for number, path in enumerate(found):
        model = composer.read_model(path)
        out = tmp_path / f"{number}.txt"
        out.write_text(text(contents(model) if isinstance(model, Model) else model.contents()))
        same(path, out)


def test_t5_old_files_are_refused(shared: Path) -> None:
    with pytest.raises(DataError, match="'nep', a format of before 2022"):
        composer.read_model(shared / "models/tutorials/16_Deposition_example2.nep.txt")


DAMAGE = {
    "one number less": (lambda t: t[:-1], r"asks for 258 numbers .*found 257"),
    "one number more": (lambda t: [*t, "1.0"], r"asks for 258 numbers .*found 259"),
    "two numbers in a line": (lambda t: [*t[:-1], "1.0 2.0"], "should hold one number"),
    "not a number": (lambda t: [*t[:-1], "x"], "should hold one number and reads 'x'"),
    "infinite": (lambda t: [*t[:-1], "inf"], "should hold one number and reads 'inf'"),
    "tag": (lambda t: ["nep6 2 Al Cu", *t[1:]], "Its tag is 'nep6'"),
    "species": (lambda t: ["nep4 3 Al Cu", *t[1:]], "announces"),
    "species twice": (lambda t: ["nep4 2 Al Al", *t[1:]], "announces"),
    "order": (lambda t: [t[0], t[2], t[1], *t[3:]], "Line 2 should start with 'cutoff'"),
    "cutoffs": (lambda t: [t[0], "cutoff 5 4 6 200 100", *t[2:]], "expected 4 or 6"),
    "layers": (lambda t: [*t[:5], "ANN 5 5", *t[6:]], "two hidden layers"),
    "negative": (lambda t: [*t[:2], "n_max -1 1", *t[3:]], "negative counts"),
    "nothing": (lambda t: ["nep"], "a format of before 2022"),
    "temperature": (lambda t: ["nep4_temperature 2 Al Cu", *t[1:]], "with dispersion or temperature"),
}


@pytest.mark.parametrize(("harm", "says"), DAMAGE.values(), ids=DAMAGE)
def test_t5_damaged_files_are_refused_with_what_was_expected(tmp_path: Path, harm, says: str) -> None:
    lines = text(random_file()).splitlines()
    path = tmp_path / "nep.txt"
    path.write_text("\n".join(harm(lines)) + "\n")
    with pytest.raises(DataError, match=says):
        composer.read_model(path)


def test_t5_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        parse(tmp_path / "none.txt")


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    small = NEP(cutoff=(5, 4), n_max=(1, 1), basis=(2, 2), neurons=2)
    for expression in (small + Pair(cutoff=4.0), 2 * small, ZBL() + small, small * small.named("b")):
        with pytest.raises(AlgebraError, match="holds one NEP"):
            composer.compile(expression, ["Al"], quiet=True).export(tmp_path / "no.txt")
    fitted = composer.compile(small, ["Al", "Cu"], {"E0": [-3.0, -4.0]}, quiet=True)
    with pytest.raises(AlgebraError, match="version=5"):
        fitted.export(tmp_path / "no.txt")
    five = composer.compile(
        NEP(cutoff=(5, 4), n_max=(1, 1), basis=(2, 2), neurons=2, version=5), ["Al", "Cu"], {"E0": [-3.0, -4.0]}, quiet=True
    )
    again = composer.read_model(five.export(tmp_path / "five.txt").folder)
    np.testing.assert_allclose(again.parameters["E0"].numpy(), [-3.0, -4.0], atol=1e-6)
    assert contents(five).neighbors == (95, 49)


def test_a_fit_that_cannot_be_written_is_refused_before_it_starts() -> None:
    small = NEP(cutoff=(5, 4), n_max=(1, 1), basis=(2, 2), neurons=2)
    writable(composer.compile(small, ["Al"], quiet=True))
    for expression, species in ((small, ["Al", "Cu"]), (Pair(cutoff=4.0), ["Al"])):
        with pytest.raises(AlgebraError, match=r"version=5|holds one NEP"):
            writable(composer.compile(expression, species, quiet=True))


def test_what_a_model_file_holds(tmp_path: Path) -> None:
    """model.save keeps the scaler and the expression."""
    model = composer.read_model(written(tmp_path, version=5, zbl=(1.0, 2.0)))
    again = composer.read_model(model.save(tmp_path / "model.composer"))
    assert again.expression == model.expression
    assert all(np.array_equal(again.parameters[n].numpy(), t.numpy()) for n, t in model.parameters.items())
    assert not any("scaler" in n for n in model.parameter_names)
