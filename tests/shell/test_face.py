"""The face of the package: light, lazy, whole, and sure of its companions."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import composer

ROOT = Path(__file__).parents[2]


def run(program: str, *first: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (*first, ROOT)))
    return subprocess.run([sys.executable, "-c", program], cwd="/", env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)


def test_importing_brings_nothing_heavy() -> None:
    """Number 1 of theory/interfaces.md, section 12: the face alone is lighter still."""
    done = run("import composer, sys; heavy = {'torch', 'numpy', 'ase', 'scipy', 'matplotlib'} & set(sys.modules); assert not heavy, heavy")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [name for name in composer.__all__ if name != "longrange"])
def test_every_name_is_there(name: str) -> None:
    assert getattr(composer, name) is getattr(composer, name)
    assert callable(getattr(composer, name)) or name == "longrange"


def test_a_verb_wins_over_the_module_of_its_name() -> None:
    program = (
        "import composer, composer.fit.weights, composer.evaluate, composer.properties\n"
        "assert all(map(callable, (composer.fit, composer.evaluate, composer.properties))), composer.fit\n"
        "from composer import fit; assert callable(fit)\n"
        "import composer.fit; assert callable(composer.fit)\n"
        "from composer.fit import Weights; assert Weights is composer.Weights\n"
        "assert composer.errors.DataError is composer.DataError"
    )
    done = run(program)
    assert done.returncode == 0, done.stderr


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(AttributeError, match="it offers"):
        composer.fitt  # noqa: B018
    assert "read_model" in dir(composer)


def test_version_is_the_one_of_the_distribution() -> None:
    assert composer.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_expressions_know_all_terms_without_an_import() -> None:
    text = '{"composer": 1, "expression": {"term": "ZBL", "inner": null, "outer": null}}'
    done = run(f"import composer; print(composer.expression('{text}'), composer.parse_expression('ZBL()'))")
    assert done.stdout.split("\n")[0] == "ZBL() ZBL()", done.stderr


@pytest.mark.parametrize(("name", "program"), [("terms", "composer.parse_expression('ZBL()')"), ("analysis", "composer.fit")])
def test_another_package_of_a_companions_name_is_named(name: str, program: str, tmp_path: Path) -> None:
    """Number 2 of theory/interfaces.md, section 12."""
    other = tmp_path / name
    other.mkdir()
    (other / "__init__.py").write_text("")
    done = run(f"import composer; {program}", tmp_path)
    assert done.returncode == 1
    assert f"The package {name} of composer was to be imported" in done.stderr and str(other) in done.stderr and "Rename" in done.stderr
    asked = run("import composer; print(composer.doctor()['problem'])", tmp_path)
    assert str(other) in asked.stdout


def test_doctor_knows_the_compiler() -> None:
    """Number 23 of theory/interfaces.md, section 12."""
    report = composer.doctor()
    assert report["compiler"] and report["composer"] == composer.__version__ and "problem" not in report
