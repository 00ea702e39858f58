"""The search finds what was planted, whatever the order of its words and the number of its workers, and tells the truth about it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import composer
from composer.algebra import Expression
from composer.evaluate import evaluate
from composer.search import Search
from composer.search.moves import normal
from composer.search.trial import model_of
from tests.search.conftest import ANGLES, BOUND, CROWD, LARGE, SMALL, VOCABULARY, passed, planted, sequence

SHAPES: dict[str, Expression] = {
    "pairs": LARGE,
    "pairs and angles": SMALL + ANGLES,
    "embedded": SMALL + BOUND,
    "a product": SMALL + ANGLES * (1 + CROWD.named("a")),
}


@pytest.fixture(scope="module")
def run() -> Iterator[Search]:
    """One search over noisy data of a product, which several tests look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("composer.search.jury"), "examine", passed)
        patch.setenv("COMPOSER_OPT", "-O1")
        yield composer.search(planted(SHAPES["a product"], noise=0.02), VOCABULARY, max_parameters=16, budget=12, quiet=True)


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("shape", SHAPES)
def test_planted_models_are_recovered(shape: str, noise: float, calm: None) -> None:
    data = planted(SHAPES[shape], count=18, noise=noise)
    found = composer.search(data, VOCABULARY, max_parameters=13, budget=16, quiet=True)
    error = {
        o: float(np.std(np.concatenate([np.ravel(getattr(f, o)) / (len(f) if o == "energy" else 1) for f in data])))
        for o in ("energy", "forces")
    }
    limit = {o: max(1.6 * noise, 1e-4) * e for o, e in error.items()}
    good = [t for t in found.trials if not t.failed and t.energy < 1000 * limit["energy"] and t.forces < limit["forces"]]
    assert good, [(t.energy, t.forces, str(t.expression)) for t in found.pareto]
    assert normal(min(good, key=lambda t: t.parameters).expression) == SHAPES[shape]


def test_search_order_of_the_words_does_not_matter(calm: None) -> None:
    data = planted(SHAPES["pairs and angles"], count=15, noise=0.02)
    runs = [composer.search(data, words, max_parameters=12, budget=7, quiet=True) for words in (VOCABULARY, VOCABULARY[::-1])]
    assert sequence(runs[0]) == sequence(runs[1])
    half = composer.search(data, VOCABULARY[::2], max_parameters=12, budget=3, quiet=True)
    assert half.best.size > 1


def test_search_27_members_of_the_front_are_not_beaten_and_scores_follow_from_numbers(run: Search) -> None:
    found, data = run, run.study.data
    assert len(found.pareto) >= 3
    for a in found.pareto:
        assert not any(
            all(x <= y for x, y in zip(b.objectives, a.objectives)) and b.objectives != a.objectives for b in found.trials if not b.failed
        )
    assert any(t.method == "variable projection" for t in found.trials)
    for trial in found.trials[::3]:
        whole = evaluate(model_of(trial.expression, found.study, trial.theta), data)
        assert whole.energy is not None and whole.forces is not None
        assert whole.energy.rmse == pytest.approx(1000 * trial.train["energy"], rel=1e-8) and whole.forces.rmse == pytest.approx(
            trial.train["forces"], rel=1e-8
        )
        squares = np.zeros(2)
        for fold, theta in zip(found.study.folds, trial.theta_folds, strict=True):
            left_out = data[found.study.fold == fold]
            errors = evaluate(model_of(trial.expression, found.study, theta), left_out)
            squares += [np.sum(errors.error(o) ** 2) for o in ("energy", "forces")]
        counts = [len(data), 3 * sum(map(len, data))]
        assert np.sqrt(squares / counts) == pytest.approx([trial.energy, trial.forces], rel=1e-8)


def test_predicted_gains_are_those_that_are_realised(run: Search) -> None:
    found = run
    assert found.spearman >= 0.7
    assert all(t.reason for t in found.trials) and found.ranked > 30
    assert {"add", "multiply"} <= {t.kind for t in found.trials}


def test_a_stop_is_a_prefix_and_limits_hold(calm: None) -> None:
    data = planted(SHAPES["pairs and angles"], count=15, noise=0.02)
    long = composer.search(data, VOCABULARY, max_parameters=12, budget=9, quiet=True)
    short = composer.search(data, VOCABULARY, max_parameters=12, budget=4, quiet=True)
    assert sequence(long)[:4] == sequence(short) and short.stopped == "budget spent"
    assert max(t.parameters for t in long.trials) <= 12
    none = composer.search(data, VOCABULARY, max_parameters=12, seconds=0.0, quiet=True)
    assert not none.trials and none.stopped == "out of time"
    with pytest.raises(composer.DataError, match="None of 0 trials"):
        _ = none.best
    costs = sorted(t.cost for t in long.trials)
    cheap = composer.search(data, VOCABULARY, max_parameters=12, max_cost=costs[0], budget=4, quiet=True)
    assert all(t.cost <= costs[0] for t in cheap.trials)


def test_pick_and_rows(run: Search) -> None:
    found = run
    assert found.pick(parameters=5).size <= 5
    good = found.pick(forces=1.01 * found.winner.forces)
    assert good.size <= found.best.size
    with pytest.raises(composer.DataError, match="least of each"):
        found.pick(energy=0.0)
    assert len(found.rows()) == len(found.dataframe()) == len(found.trials) and "winner" not in str(found)
    assert found.best.domain["Si-Si"] > 1.0 and found.best.provenance["run"] == found.run
    assert found.best.covariance_root is not None and found.best.covariance_root.shape[0] == found.best.size


def test_search_29_the_winner_reloaded_gives_the_reported_errors(run: Search, tmp_path: Path) -> None:
    unseen = planted(SHAPES["a product"], count=9, noise=0.02, seed=5)
    same, told = composer.read_model(run.best.save(tmp_path / "best.composer")), run.best.evaluate(unseen)
    for errors, reported in ((same.evaluate(unseen), told), (same.evaluate(run.study.data), evaluate(run.best, run.study.data))):
        assert errors.scores["energy"].rmse == pytest.approx(reported.scores["energy"].rmse, rel=1e-6)
        assert errors.scores["forces"].rmse == pytest.approx(reported.scores["forces"].rmse, rel=1e-6)
    assert same.evaluate(run.study.data).scores["forces"].rmse == pytest.approx(run.winner.train["forces"], rel=1e-6)


def test_ctrl_c_returns_what_is_done(calm: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from composer.search.ledger import Ledger

    data, note = planted(SHAPES["pairs"], count=15, noise=0.02), Ledger.note

    def interrupted(self: Ledger, *arguments: object) -> None:
        if len(self.trials) == 3:
            raise KeyboardInterrupt
        note(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "note", interrupted)
    found = composer.search(data, VOCABULARY, max_parameters=12, budget=9, storage=tmp_path, quiet=True)
    assert len(found.trials) == 3 and found.stopped == "interrupted" and found.best.size > 1
    monkeypatch.setattr(Ledger, "note", note)
    again = composer.search(data, VOCABULARY, max_parameters=12, budget=9, storage=tmp_path, quiet=True)
    fresh = composer.search(data, VOCABULARY, max_parameters=12, budget=9, quiet=True)
    assert sequence(again) == sequence(fresh)


@pytest.mark.parametrize(
    "limits", [{"budget": 0}, {"seconds": -1.0}, {"max_parameters": 1}, {"max_cost": -2.0}, {"folds": -2}, {"budget": 2.5}]
)
def test_limits_under_which_nothing_can_be_found_are_refused_at_once(limits: dict[str, float]) -> None:
    with pytest.raises(composer.DataError, match=next(iter(limits))):
        composer.search(planted(SHAPES["pairs"], count=6), VOCABULARY, quiet=True, **limits)  # type: ignore[arg-type]
