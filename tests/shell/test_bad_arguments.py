"""Bad arguments are refused where they enter: what was asked, what was found, what to type."""

import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

import composer
from composer import compile, fit, search
from composer.cli import TARGETS as TARGETS_OF_HELP
from composer.cli import app
from composer.data import Data, read_data
from composer.export.targets import TARGETS
from composer.model import Model
from composer.pairs import PairFinder
from terms import NEP, ZBL, Density, Pair, PairFormula

SILICON = np.array([[0.0, 0, 0], [1.36, 1.36, 1.36]]), 2.72 * (1 - np.eye(3)), np.ones(3, bool)


@pytest.fixture(scope="module")
def model() -> Model:
    return compile(Pair(cutoff=4.0, n_max=2), ["Si"], quiet=True)


@pytest.fixture(scope="module")
def data() -> Data:
    return read_data("silicon.xyz.xz", quiet=True)[:4]


def refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(composer.ComposerError, match=words) as caught:
        call()
    assert len(re.findall(r"[.?!](?= |$)", str(caught.value))) >= 3, caught.value


FITS = {
    "ridge": [-1, float("nan"), float("inf"), "auto", True],
    "folds": [-1, 2.5, "a", None],
    "seed": [-1, "a", 0.5],
    "restarts": [-1, 1.5],
    "epochs": [0, -3, 2.5, "a"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in FITS.items() for value in values])
def test_settings_of_a_fit(model: Model, data: Data, name: str, value: Any) -> None:
    refused(lambda: fit(model, data, quiet=True, **{name: value}), re.escape(f"{name}={value!r}"))


SEARCHES = [
    ({"vocabulary": ["Pair"]}, "'Pair' is no expression"),
    ({"vocabulary": "Pair"}, "'Pair' is no expression"),
    ({"vocabulary": []}, "no word"),
    ({"vocabulary": 3}, "3 is no expression"),
    ({"vocabulary": [ZBL()], "start": "ZBL()"}, r"'ZBL\(\)' is no expression"),
    ({"seed": "a"}, "seed='a'"),
    ({"seconds": "a"}, "seconds='a'"),
]


@pytest.mark.parametrize(("settings", "words"), SEARCHES)
def test_settings_of_a_search(data: Data, settings: dict[str, Any], words: str) -> None:
    refused(lambda: search(data, quiet=True, **settings), words)


TERMS: dict[str, tuple[Callable[[], Any], str]] = {
    "names alone": (lambda: Density(cutoff=5, fixed=["coefficients"]), r"freeze\('coefficients'\)"),  # type: ignore[arg-type]
    "a name": (lambda: Density(cutoff=5, fixed="coefficients"), r"fix\(coefficients=1.0\)"),  # type: ignore[arg-type]
    "no number": (lambda: Density(cutoff=5).fix(coefficients="a"), "finite number"),  # type: ignore[arg-type]
    "not finite": (lambda: Density(cutoff=5).fix(coefficients=float("nan")), "finite number"),
    "misspelt": (lambda: Pair(cutof=5), r"cutof.*Its fields are cutoff, n_max.*Write Pair\(cutoff="),  # type: ignore[call-arg]
    "left out": (lambda: Pair(n_max=5), r"cutoff.*Write Pair\(cutoff="),  # type: ignore[call-arg]
    "nameless": (lambda: Pair(5.0, 6), r"Write Pair\(cutoff="),  # type: ignore[arg-type,misc]
    "formula, by pair": (lambda: PairFormula("A*exp(-r)", cutoff=5, A={"Cu-Cu": 1.0}), "with_parameters"),
    "formula, text": (lambda: PairFormula("A*exp(-r)", cutoff=5, A="one"), "'one'.*Write A=1.0"),
    "formula, no cutoff": (lambda: Pair("A*exp(-r)", A=1.0), r"Write PairFormula\(cutoff="),
    "numpy": (lambda: np.exp(Density(cutoff=5)), r"Write composer.exp\("),
    "numpy, unknown": (lambda: np.sin(Density(cutoff=5)), "Known are composer.exp"),
    "longer angular": (lambda: NEP(cutoff=(4, 6)), r"Write \(6.0, 4.0\)"),
    "elements": (lambda: NEP(elements=3), "elements = 3"),  # type: ignore[arg-type]
    "longer angular of one": (lambda: NEP(cutoff=(6, 4), elements=(("Te", 4.0, 6.0),)), "shorter angular"),
}


@pytest.mark.parametrize(("call", "words"), TERMS.values(), ids=TERMS)
def test_fields_of_terms(call: Callable[[], Any], words: str) -> None:
    refused(call, words)


def test_what_is_right_stays_as_it_was() -> None:
    term, formula = Pair(cutoff=5.0), PairFormula("A*exp(-r)", cutoff=5, A=1.0)
    assert np.float64(2) * term == 2 * term == np.int64(2) * term and np.float64(1) - term == 1 - term
    assert not np.float64(2) == term and np.float64(2) != term
    for expr in (term, formula, term * formula + ZBL()):
        assert pickle.loads(pickle.dumps(expr)) == copy.deepcopy(expr) == expr
    assert Density(cutoff=5, fixed={"coefficients": 1}) == Density(cutoff=5).fix(coefficients=np.float64(1))  # type: ignore[arg-type]


MODELS = {
    "text": (lambda: compile("ZBL()", ["Si"]), r"parse_expression\('ZBL\(\)'\)"),  # type: ignore[call-overload]
    "list": (lambda: compile([ZBL(), Pair(cutoff=5)], ["Si"]), r"Join terms by \+"),  # type: ignore[call-overload]
    "small letters": (lambda: compile(ZBL(), ["cu", "AU"]), r"species=\['Cu', 'Au'\]"),
    "number": (lambda: compile(ZBL(), 14), "14"),  # type: ignore[call-overload]
    "unit": (lambda: read_data("silicon.xyz.xz", units="eV"), 'units=\'eV\'.*"forces": "eV/Å"'),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("call", "words"), MODELS.values(), ids=MODELS)
def test_expressions_species_and_units(call: Callable[[], Any], words: str) -> None:
    refused(call, words)


def test_structures_and_numbers(model: Model, data: Data) -> None:
    refused(lambda: model.with_parameters([1, 2, 3]), "model.theta")  # type: ignore[arg-type]
    refused(lambda: composer.suggest(model, data, ["cuau.xyz"]), "type str.*read_data")
    refused(lambda: composer.suggest(model, data, [bulk("Si")], picks=1.5), "picks=1.5")  # type: ignore[arg-type]
    report = composer.fisher(model, data)
    refused(lambda: report.error_bars([]), "empty")
    refused(lambda: report.error_bars(["cuau.xyz"]), "type str")
    for level in (68, 1.5, 0, "a"):
        refused(lambda level=level: report.error_bars([bulk("Si")], level=level), "level=0.68")


def test_more_pairs_than_memory_holds() -> None:
    far = compile(Pair(cutoff=3000.0, n_max=2), ["Si"], quiet=True)
    refused(lambda: far(bulk("Si")), r"3000 Å of 2 atoms.*5\.\de\+09 pairs.*shorter cutoff")
    finder = PairFinder(3000.0)
    assert finder(SILICON[0], np.zeros((3, 3)), np.zeros(3, bool))[0].tolist() == [[0, 1]], "a molecule has all its pairs and no more"


def test_a_search_for_pairs_that_finds_no_memory_crashes_nothing() -> None:
    """Memory that ends in the middle: an error, then another search in the same process."""
    program = (
        "import resource, sys; from composer.errors import DataError; from composer.pairs import PairFinder\n"
        "from tests.shell.test_bad_arguments import SILICON\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, -1))\n"
        "try: PairFinder(600.0)(*SILICON)\n"
        "except DataError as error: print(error)\n"
        "print(len(PairFinder(3.0)(*SILICON)[0]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "memory" in done.stdout and done.stdout.split()[-1] == "4", done.stdout


def test_files(model: Model, data: Data, tmp_path: Path) -> None:
    made = model.save(tmp_path / "new" / "x.composer")
    refused(lambda: model.save(made / "y.composer"), r"folder cannot be written")
    (tmp_path / "garbage").write_text("garbage")
    network = compile(NEP(cutoff=(4, 4), n_max=(0, 0), basis=(1, 1), l_max=(1,), neurons=1), ["Si"], quiet=True)
    with pytest.raises(composer.DataError, match="no checkpoint") as caught:
        fit(network, data, epochs=1, checkpoint=tmp_path / "garbage", quiet=True, method="adam")
    assert "pickle" not in str(caught.value)
    refused(lambda: fit(network, data, epochs=1, checkpoint=made / "c", quiet=True, method="adam"), "folder cannot be written")


OPTIONS = [
    ("fit", "--test", "1.5"),
    ("fit", "--test", "nan"),
    ("fit", "--epochs", "0"),
    ("search", "--budget", "0"),
    ("search", "--workers", "0"),
    ("search", "--max-parameters", "1"),
    ("search", "--test", "-1"),
    ("search", "--seed", "-1"),
]


@pytest.mark.parametrize(("command", "option", "value"), OPTIONS)
def test_options_are_looked_at_before_the_data(command: str, option: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composer, "read_data", lambda *_, **__: pytest.fail("the work has begun"))
    more = ["--model", "Pair(cutoff=5)"] if command == "fit" else []
    done = CliRunner().invoke(app, [command, "silicon.xyz.xz", *more, option, value])
    assert done.exit_code == 2 and f"Invalid value for '{option}'" in done.output, done.output


def test_the_command_line_names_targets_and_swapped_files(model: Model, tmp_path: Path) -> None:
    assert set(TARGETS_OF_HELP.split()) == set(TARGETS)
    text = CliRunner().invoke(app, ["export", "--help"], terminal_width=200).output
    assert all(name in text for name in TARGETS)
    file = str(model.save(tmp_path / "own.composer"))
    done = CliRunner().invoke(app, ["evaluate", "silicon.xyz.xz", file])
    assert done.exit_code == 1 and f"Write composer evaluate {file} silicon.xyz.xz" in done.output
