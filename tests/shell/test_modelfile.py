"""Model files: what is written comes back, and anything else is one clear error."""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from safetensors.numpy import save as tensors

import composer
from composer import modelfile
from composer.model import Model
from tests.catalogue import CATALOGUE


@pytest.fixture
def written(pairs: Model, tmp_path: Path) -> Path:
    model = pairs.with_parameters({})
    model.domain = {"C-Si": 1.5}
    model.provenance = {"seed": 3, "data": "sha256 0123", "errors": {"energy": np.float64(2.5)}}
    model.covariance_root = np.arange(2.0 * model.size).reshape(model.size, 2)
    return model.save(tmp_path / "pairs.composer", {"note": "a test"})


def forged(path: Path, edit: Callable[[dict[str, bytes]], None], honest: bool = True) -> Path:
    """The file with changed parts; honest: with hashes that fit them."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    edit(parts)
    if honest and "manifest.json" in parts:
        manifest = json.loads(parts["manifest.json"])
        manifest["parts"] = {n: hashlib.sha256(c).hexdigest() for n, c in parts.items() if n != "manifest.json"}
        parts["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def described(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def edit(parts: dict[str, bytes]) -> None:
        content = json.loads(parts["model.json"])
        change(content)
        parts["model.json"] = json.dumps(content).encode()

    return edit


def test_round_trip_to_the_last_bit(written: Path, pairs: Model, carbide: Atoms) -> None:
    """Number 18 of theory/interfaces.md, section 12."""
    same = composer.read_model(written)
    assert same.expression == pairs.expression and same.species == pairs.species
    assert torch.equal(same.flat, pairs.flat)
    assert torch.equal(same(carbide).forces, pairs(carbide).forces) and same(carbide).forces.abs().max() > 0.001
    assert same.domain == {"C-Si": 1.5}
    assert same.provenance["errors"] == {"energy": 2.5} and same.provenance["note"] == "a test"
    assert set(same.provenance["versions"]) >= {"composer", "python", "torch"}
    assert same.covariance_root.shape == (pairs.size, 2)
    assert "Pair.coefficients [eV]" in modelfile.describe(same) and "1.500 Å" in modelfile.describe(same)


def test_equal_models_give_equal_files(written: Path, tmp_path: Path) -> None:
    again = composer.read_model(written).save(tmp_path / "again.composer")
    assert again.read_bytes() == written.read_bytes()


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_expression_of_the_catalogue_survives(name: str, tmp_path: Path) -> None:
    expr, species = CATALOGUE[name]
    model = Model(expr, species)
    model = model.with_parameters(model.theta + 0.01 * torch.arange(model.size, dtype=torch.float64))
    same = composer.read_model(model.save(tmp_path / "m.composer"))
    assert same.expression == expr and torch.equal(same.flat, model.flat)


def test_other_numbers_do_not_inherit_what_belongs_to_these(written: Path) -> None:
    model = composer.read_model(written)
    other = model.with_parameters({"E0": 0.0})
    assert other.covariance_root is None and other.provenance == {} and other.domain == model.domain


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.unlink(), "does not exist"),
        (lambda p: (p.unlink(), p.mkdir()), "a folder"),
        (lambda p: p.write_bytes(b""), "no model file"),
        (lambda p: p.write_text("a = 1\n"), "no model file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-30]), "no model file"),
        (lambda p: p.write_bytes(p.read_bytes()[:200]), "no model file"),
        (lambda p: forged(p, lambda parts: parts.pop("manifest.json")), "damaged or no model file"),
        (lambda p: forged(p, lambda parts: parts.update({"manifest.json": b"[]"}), honest=False), "another kind"),
        (lambda p: forged(p, lambda parts: parts.pop("numbers.safetensors")), "damaged or no model file"),
        (lambda p: forged(p, lambda parts: parts.update({"model.json": parts["model.json"] + b" "}), honest=False), "was changed"),
        (lambda p: forged(p, lambda parts: parts.update({"model.json": b"{"})), "do not make sense"),
        (lambda p: forged(p, lambda parts: parts.update({"numbers.safetensors": b"12345678901"})), "do not make sense"),
        (lambda p: forged(p, described(lambda c: c.pop("species"))), "do not make sense"),
        (lambda p: forged(p, described(lambda c: c.update(expression={"term": "Gravity"}))), "Gravity"),
        (lambda p: forged(p, described(lambda c: c.update(expression={"term": "Pair", "cutoff": -1}))), "above 0"),
        (lambda p: forged(p, described(lambda c: c.update(expression={"term": "Pair", "cutoff": 3.0, "system": "ls"}))), "system"),
        (lambda p: forged(p, described(lambda c: c.update(expression={"term": "Pair", "cutoff": 3.0, "n_max": 7}))), "do not fit"),
        (lambda p: forged(p, described(lambda c: c.update(species=["C", "Xx"]))), "chemical symbols"),
        (lambda p: forged(p, lambda q: q.update({"numbers.safetensors": tensors({"parameter E0": np.zeros(2)})})), "do not fit"),
    ],
)
def test_bad_files_are_one_clear_error(written: Path, make: Callable[[Path], Any], message: str) -> None:
    """Number 18 of theory/interfaces.md, section 12: changed content, which a hash tells, among others."""
    make(written)
    with pytest.raises(composer.DataError, match=message) as caught:
        composer.read_model(written)
    assert str(written) in str(caught.value)


def test_newer_schema(written: Path) -> None:
    """Number 18 of theory/interfaces.md, section 12: an unknown schema."""

    def edit(parts: dict[str, bytes]) -> None:
        parts["manifest.json"] = parts["manifest.json"].replace(b'"schema": 1', b'"schema": 2')

    with pytest.raises(composer.DataError, match="Update composer"):
        composer.read_model(forged(written, edit))


def test_numbers_that_are_not_finite(written: Path) -> None:
    def edit(parts: dict[str, bytes]) -> None:
        tables = {"parameter E0": np.array([np.nan, 0.0]), "parameter Pair.coefficients": np.zeros((3, 2))}
        parts["numbers.safetensors"] = tensors(tables)

    with pytest.raises(composer.DataError, match="not finite"):
        composer.read_model(forged(written, edit))


def test_any_damaged_byte_is_noticed_or_harmless(written: Path) -> None:
    whole = written.read_bytes()
    good = modelfile.read(written)
    noticed = 0
    for place in range(0, len(whole), 7):
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            found = modelfile.read(written)
        except composer.DataError:
            noticed += 1
            continue
        assert found.expression == good.expression and found.species == good.species
        assert all(np.array_equal(found.parameters[n], table) for n, table in good.parameters.items())
    assert noticed > 50


def test_a_full_disk_leaves_the_old_file(written: Path, pairs: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(composer.DataError, match="No space left"):
        pairs.save(written)
    assert written.read_bytes() == before
    assert [p.name for p in written.parent.iterdir()] == [written.name]


def test_a_folder_is_made_and_notes_that_are_no_data_are_refused(pairs: Model, tmp_path: Path) -> None:
    made = pairs.save(tmp_path / "new" / "folder" / "x.composer")
    with pytest.raises(composer.DataError, match="x.composer/y was to be written. Its folder cannot be written"):
        pairs.save(made / "y")
    shutil.rmtree(tmp_path / "new")
    with pytest.raises(composer.DataError, match="no JSON data"):
        pairs.save(tmp_path / "x.composer", {"when": object()})
    assert not list(tmp_path.iterdir())
