"""nep.in of GPUMD: an expression, weights, and a word on what is left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import composer
from composer.cli import app
from composer.errors import ComposerError, DataError
from composer.export.nepin import NepIn, read_nep_in
from composer.fit.epochs import _shares
from terms import NEP, ZBL

ROOT = Path(__file__).parents[2]

FULL = """
type 2 Te Pb   # a comment
version 5
cutoff 8 4 7 3.5
n_max 4 2
basis_size 8 6
l_max 4 2 1
neuron 10
zbl 2
lambda_e 1
lambda_f 4
lambda_v 0
generation 100000
population 50
"""


def read(tmp_path: Path, text: str) -> NepIn:
    (tmp_path / "nep.in").write_text(text)
    return read_nep_in(tmp_path / "nep.in")


def test_all_keys(tmp_path: Path) -> None:
    found = read(tmp_path, FULL)
    nep = NEP(
        cutoff=(8, 4), n_max=(4, 2), basis=(8, 6), l_max=(4, 2, 1), neurons=10, version=5, elements=(("Te", 8.0, 4.0), ("Pb", 7.0, 3.5))
    )
    assert found.expression == nep + ZBL(inner=1.0, outer=2.0, switch="cosine") and found.species == ("Te", "Pb")
    assert (found.weights.energy, found.weights.forces, found.weights.stress) == (1.0, 0.5, None)
    assert _shares(found.weights, 1.0) == {"energy": 0.25, "forces": 1.0, "virial": 0.0}  # of the loss in epochs
    assert found.said == "nep.in: left out, for there are no generations here: generation 100000, population 50"


def test_the_face_and_the_shell_know_the_terms(tmp_path: Path) -> None:
    """In a process of its own, where nothing else has imported them."""
    (tmp_path / "nep.in").write_text("type 1 Si\ncutoff 4 3\nn_max 0 0\nbasis_size 1 1\nl_max 1\nneuron 1\n")
    command = ["fit", "silicon.xyz.xz", "--model", "nep.in", "--epochs", "1", "--out", "nep.txt", "--json"]
    code = f"from composer.cli import app; app({command!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert composer.read_model(tmp_path / "nep.txt").species == ("Si",)


def test_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, "type 1 Si\nzbl 1.5\nuse_typewise_cutoff_zbl\nmodel_type 0\n")
    nep = NEP(cutoff=(8, 4), n_max=(6, 6), basis=(6, 6), l_max=(4, 1), neurons=30)
    assert found.expression == nep + ZBL(inner=0.0, outer=1.5, factor=0.7, switch="cosine")
    assert "taken as in GPUMD since 2026: n_max 6 6, basis_size 6 6" in found.said


def test_numbers_of_each_pair_beside_it(tmp_path: Path) -> None:
    rows = [[0.5 + 0.1 * n, 2.0 + 0.1 * n, *(0.1 * (n + m + 1) for m in range(8))] for n in range(3)]
    (tmp_path / "zbl.in").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    found = read(tmp_path, "type 2 Te Pb\nzbl 2\nuse_typewise_cutoff_zbl\n").expression
    pairs = tuple((a, b, *row) for (a, b), row in zip((("Te", "Te"), ("Te", "Pb"), ("Pb", "Pb")), rows))
    assert found == NEP(cutoff=(8, 4), n_max=(6, 6), basis=(6, 6), l_max=(4, 1), neurons=30) + ZBL(switch="cosine", pairs=pairs)
    assert ZBL(switch="cosine", pairs=pairs) not in read(tmp_path, "type 2 Te Pb").expression.terms()  # asked for by `zbl` alone
    (tmp_path / "zbl.in").write_text("\n".join(" ".join(map(str, row)) for row in [*rows[:2], [2.0, 1.0, *rows[2][2:]]]))
    with pytest.raises(DataError, match=r"A pair has the numbers 2 1 .* inner < outer"):
        read(tmp_path, "type 2 Te Pb\nzbl 2\n")
    (tmp_path / "zbl.in").write_text("1 2 3  # too few")
    with pytest.raises(DataError, match=r"holds 3 numbers. Write ten for each of the 3 pairs"):
        read(tmp_path, "type 2 Te Pb\nzbl 2\n")


WRONG = {
    "unknown key": ("type 1 Si\nneurons 30", "Line 2 has the unknown key 'neurons'"),
    "twice": ("type 1 Si\nneuron 30\nneuron 20", "Line 3 gives neuron a second time"),
    "no type": ("neuron 30", "no line `type`"),
    "species": ("type 2 Si", "announces 2 species and names 1"),
    "two layers": ("type 1 Si\nneuron 30 30", "neuron 30 30 is not understood"),
    "no number": ("type 1 Si\ncutoff far 4", "cutoff far 4 is not understood"),
    "dipoles": ("type 1 Si\nmodel_type 1", "something else than a new model"),
    "fine tuning": ("type 1 Si\nfine_tune a b", "composer.read_model"),
    "weights": ("type 1 Si\nlambda_f -1", "below zero"),
    "degree": ("type 1 Si\nl_max 9", "l_max"),
    "repulsion": ("type 1 Si\nzbl 5", "reaches 5.0 Å"),
}


@pytest.mark.parametrize(("text", "says"), WRONG.values(), ids=WRONG)
def test_wrong_files(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ComposerError, match=says):
        read(tmp_path, text)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.in was to be read"):
        read_nep_in(tmp_path / "none.in")


def test_the_files_of_gpumd(shared: Path) -> None:
    for file, numbers in (("pbte/gpumd_nep.in", 2), ("pbte/tutorial_nep.in", 2)):
        assert len(read_nep_in(shared / file).species) == numbers


def test_fit_from_a_shell(tmp_path: Path) -> None:
    (tmp_path / "nep.in").write_text("type 1 Si\ncutoff 5 4\nn_max 2 2\nbasis_size 4 4\nl_max 2 0\nneuron 6\ngeneration 10\n")
    made = CliRunner().invoke(
        app, ["fit", "silicon.xyz.xz", "--model", str(tmp_path / "nep.in"), "--epochs", "1", "--out", str(tmp_path / "nep.txt")]
    )
    assert made.exit_code == 0 and "generation 10" in made.output and (tmp_path / "nep.txt").exists(), made.output
