"""An export as a folder: all or nothing, hashes, schema; and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import composer
from composer.cli import app
from composer.errors import BackendError, DataError
from composer.export import targets, validate
from composer.export.check import demand, model_values, worst
from composer.export.folder import read_manifest
from composer.export.library import Values
from composer.export.structures import random_structures
from composer.export.validation import force_error, strain_error
from composer.model import Model

ModelOf = Callable[[str], Model]


@pytest.fixture(scope="module")
def made(model_of: ModelOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "sw"
    model_of("StillingerWeber").export(folder, "c")
    return folder


def copied(made: Path, place: Path) -> Path:
    place.mkdir(exist_ok=True)
    for file in made.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


def wrong(folder: Path, model: Model) -> Callable:
    """An engine whose forces have a flaw."""

    def engine(structure) -> Values:
        ours = model_values(model, structure)
        return Values(ours.energy, ours.forces * (1 + 1e-8), ours.virial, ours.energies)

    return engine


def test_a_failed_check_leaves_no_file(model_of: ModelOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from composer.export import c

    monkeypatch.setattr(c, "check_engine", wrong)
    with pytest.raises(BackendError, match="It differs in forces by 1.0e-08"):
        model_of("StillingerWeber").export(tmp_path / "new", "c")
    assert not (tmp_path / "new").exists()


def test_numbers_that_are_not_numbers_fail_the_check(model_of: ModelOf) -> None:
    model = model_of("StillingerWeber")

    def engine(structure) -> Values:
        ours = model_values(model, structure)
        return Values(float("nan"), ours.forces, ours.virial, ours.energies)

    with pytest.raises(BackendError, match="energy by nan"):
        demand(worst(engine, model, random_structures(["Si"])), 1e-10, "c")


def test_an_earlier_export_is_replaced_and_a_file_of_others_is_not(made: Path, model_of: ModelOf, tmp_path: Path) -> None:
    folder = copied(made, tmp_path / "again")
    (folder / "notes.txt").write_text("mine")
    model_of("stages").export(folder, "ipi")
    assert {f.name for f in folder.iterdir()} == {"notes.txt", "engine.py", "model.composer", "export.json"}
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model.composer").write_text("mine")
    with pytest.raises(DataError, match="which no export wrote"):
        model_of("stages").export(mine, "ipi")
    assert [f.name for f in mine.iterdir()] == ["model.composer"]
    assert (mine / "model.composer").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="It is a file"):
        model_of("stages").export(tmp_path / "file", "ipi")


def test_an_unknown_target_names_all(model_of: ModelOf, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        model_of("stages").export(tmp_path / "folder", "gromacs")
    assert all(name in str(error.value) for name in targets.TARGETS)


def test_validate_says_all_is_well(made: Path) -> None:
    found = composer.validate(made)
    assert found.ok and "all within what is allowed" in str(found)
    assert {row["subject"].split(": ")[1].split(" ")[0] for row in found.rows()} == {"energy", "forces", "virial", "site"}


@pytest.mark.parametrize("bad", ["forces", "virial"])
def test_differences_of_energy_find_a_flaw(bad: str, model_of: ModelOf) -> None:
    """The two checks that need no model must see a wrong force and a wrong virial."""
    model = model_of("StillingerWeber")
    crystal = random_structures(["Si"], seed=1)[0]

    def engine(structure) -> Values:
        ours = model_values(model, structure)
        factors = {"forces": (1.001, 1.0), "virial": (1.0, 1.001)}[bad]
        return Values(ours.energy, ours.forces * factors[0], ours.virial * factors[1])

    assert force_error(engine, crystal) > 1e-4 if bad == "forces" else force_error(engine, crystal) < 1e-6
    assert strain_error(engine, crystal) > 1e-4 if bad == "virial" else strain_error(engine, crystal) < 1e-6


def test_changed_files_foreign_schemas_and_other_folders(made: Path, tmp_path: Path) -> None:
    folder = copied(made, tmp_path / "copy")
    (folder / "potential.c").write_text("int x;")
    with pytest.raises(DataError, match="potential.c was changed"):
        validate(folder)
    (folder / "potential.c").unlink()
    with pytest.raises(DataError, match="potential.c is missing"):
        validate(folder)
    content = json.loads((made / "export.json").read_text())
    for text, said in (
        (json.dumps(content | {"schema": 9}), "has schema 9"),
        (json.dumps(content | {"format": "x"}), "of another kind"),
        ("[]", "of another kind"),
        ("{", "no JSON"),
    ):
        (folder / "export.json").write_text(text)
        with pytest.raises(DataError, match=said):
            read_manifest(folder)
    with pytest.raises(DataError, match=r"has no export\.json"):
        validate(tmp_path)


def test_a_manifest_reads_nothing_outside_its_folder(made: Path, tmp_path: Path) -> None:
    folder = copied(made, tmp_path / "copy")
    content = json.loads((folder / "export.json").read_text())
    content["files"] = {"../../secret": "0"}
    (folder / "export.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="is missing"):
        read_manifest(folder)


def test_commands(made: Path, model_of: ModelOf, tmp_path: Path) -> None:
    run = CliRunner().invoke
    model_of("StillingerWeber").save(tmp_path / "m.composer")
    said = run(app, ["export", str(tmp_path / "m.composer"), str(tmp_path / "out"), "--to", "c", "--json"])
    assert said.exit_code == 0, said.output
    assert max(json.loads(said.stdout)["checks"].values()) < 1e-10
    said = run(app, ["validate", str(tmp_path / "out"), "--json"])
    assert said.exit_code == 0 and json.loads(said.stdout)["ok"]
    assert run(app, ["export", str(tmp_path / "m.composer"), str(tmp_path / "out"), "--to", "nothing"]).exit_code == 1
    (tmp_path / "out" / "potential.h").write_text("")
    assert run(app, ["validate", str(tmp_path / "out")]).exit_code == 1
    said = run(app, ["lammps-plugin", "--source", str(tmp_path), "--json"])
    assert said.exit_code == 1 and "Give the src folder" in json.loads(said.stdout)["message"]


def test_a_validation_that_fails_ends_with_status_1(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from composer.export import c

    monkeypatch.setattr(c, "check_engine", wrong)
    said = CliRunner().invoke(app, ["validate", str(made)])
    assert said.exit_code == 1 and "FAILS" in said.output


def test_random_structures_hold_all_species_at_bond_lengths() -> None:
    for structure in random_structures(("C", "O", "Si"), seed=7)[:2]:
        assert set(structure.symbols) == {"C", "O", "Si"}
        distances = structure.get_all_distances(mic=True)
        assert 1.0 < np.min(distances[distances > 0]) < 3.0
