"""The command line: every command is one call of the library, speaks JSON, and fails in sentences."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import composer
from composer.cli import app
from composer.model import Model
from terms import Pair

runner = CliRunner()


@pytest.fixture
def file(silicon: Model, tmp_path: Path) -> str:
    return str(silicon.save(tmp_path / "sw.composer", {"seed": 7}))


def call(*arguments: str, status: int = 0) -> str:
    done = runner.invoke(app, list(arguments))
    assert done.exit_code == status, done.output + str(done.exception)
    return done.stdout if "--json" in arguments else done.output


def test_help_names_every_command() -> None:
    text = call("--help")
    assert all(name in text for name in ("demo", "fit", "search", "evaluate", "info", "doctor"))


def test_doctor() -> None:
    assert composer.__version__ in call("doctor")
    assert json.loads(call("doctor", "--json"))["compiler"]


def test_doctor_fails_where_something_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composer, "doctor", lambda: {"problem": "no compiler"})
    assert "no compiler" in call("doctor", status=1)


def test_info(file: str) -> None:
    text = call("info", file)
    assert "StillingerWeber.sigma [Å]" in text and "seed: 7" in text and "E = E0 +" in text
    payload = json.loads(call("info", file, "--json"))
    assert payload["species"] == ["Si"] and payload["units"]["StillingerWeber.sigma"] == "Å" and payload["provenance"]["seed"] == 7


def test_evaluate(file: str) -> None:
    text = call("evaluate", file, "silicon.xyz.xz")
    assert "meV/atom" in text and "eos_diamond" in text
    payload = json.loads(call("evaluate", file, "silicon.xyz.xz", "--json"))
    assert payload["all"]["forces"]["rmse"] > 0 and "eos_diamond" in payload["by_config_type"]


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_errors_are_sentences(as_json: list[str], tmp_path: Path) -> None:
    text = call("info", str(tmp_path / "none"), *as_json, status=1)
    assert "does not exist" in text and "Traceback" not in text
    if as_json:
        assert json.loads(text)["error"] == "DataError"
    assert "Did you mean Pair" in call("fit", "silicon.xyz.xz", "--model", "Pairr(cutoff=3)", *as_json, status=1)
    missing = call("fit", "silicon.xyz.xz", "--model", "Pair(cutoff=3)", "--energy", "1", *as_json, status=1)
    assert "--forces" in missing and "--stress" in missing


def test_fit(tmp_path: Path) -> None:
    out = tmp_path / "pair.composer"
    weights = ["--energy", "0.01", "--forces", "0.1", "--stress", "0.02"]
    kinds = ["--by", "config_type", "--skip-broken"]
    text = call("fit", "silicon.xyz.xz", "--model", "ZBL() + Pair(cutoff=5, n_max=4)", "--out", str(out), "--json", *weights, *kinds)
    payload = json.loads(text)
    assert payload["parameters"] == 5 and payload["test"]["all"]["energy"]["rmse"] < 1000
    assert composer.read_model(out).size == 5


def test_search_and_its_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, silicon: Model) -> None:
    seen: dict[str, Any] = {}

    def search(train: Any, **options: Any) -> Any:
        seen.update(options, frames=len(train))
        return SimpleNamespace(refused=None, best=silicon, report=lambda path: Path(path).write_text("<html>"))

    monkeypatch.setattr(composer, "search", search)
    out, report = tmp_path / "b.composer", tmp_path / "r.html"
    options = ["--budget", "5", "--seed", "3", "--workers", "2", "--max-parameters", "30", "--test", "0.3", "--by", "config_type"]
    payload = json.loads(call("search", "silicon.xyz.xz", "--out", str(out), "--report", str(report), *options, "--json"))
    expected = {"budget": 5, "seed": 3, "executor": 2, "max_parameters": 30, "seconds": None, "storage": None, "by": "config_type"}
    assert expected.items() <= seen.items() and 0 < seen["frames"] < 153
    assert payload["files"] == [str(out), str(report)] and out.exists() and report.exists() and "test" in payload


def test_demo_writes_a_model_a_report_and_a_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, silicon: Model) -> None:
    def search(train: Any, **options: Any) -> Any:
        assert options["seconds"] == 2.0 and str(options["storage"]).startswith(str(tmp_path))
        return SimpleNamespace(refused=None, best=silicon, report=lambda path, crystals: Path(path).write_text("<html>"))

    monkeypatch.setattr(composer, "search", search)
    text = call("demo", "--folder", str(tmp_path / "demo"), "--seconds", "2")
    assert "test RMSE" in text and "C44 (GPa)" in text and "eos_diamond" in text
    assert {p.name for p in (tmp_path / "demo").iterdir()} == {"si.composer", "report.html"}
    assert composer.read_model(tmp_path / "demo" / "si.composer").expression == silicon.expression


def test_an_expression_on_the_command_line_is_the_library_s() -> None:
    assert composer.parse_expression("Pair(cutoff=5)") == Pair(cutoff=5.0)


def test_version() -> None:
    assert call("--version").strip() == composer.__version__


@pytest.mark.parametrize("command", ["fit", "search"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composer, "read_data", lambda *_, **__: pytest.fail("the work has begun"))
    (tmp_path / "file").write_text("")
    more = ["--model", "Pair(cutoff=5)"] if command == "fit" else []
    for out, words in (("file/si.composer", "cannot be written"), (".", "folder")):
        assert words in call(command, "silicon.xyz.xz", "--out", str(tmp_path / out), *more, status=1)


def test_a_search_as_json_prints_json_alone(monkeypatch: pytest.MonkeyPatch, silicon: Model, tmp_path: Path) -> None:
    def search(data: Any, **_: Any) -> Any:
        print("a line of progress")
        return SimpleNamespace(refused=None, best=silicon)

    monkeypatch.setattr(composer, "search", search)
    out = tmp_path / "new" / "si.composer"
    done = runner.invoke(app, ["search", "silicon.xyz.xz", "--json", "--out", str(out)])
    assert json.loads(done.stdout)["files"] == [str(out)] and out.exists()
    assert "a line of progress" in done.stderr and "frames" in done.stderr  # of the data
