"""The parts of a search: keys, moves, polynomials, covers, ranks, costs."""

from __future__ import annotations

import json
import random
import sys
from html import escape
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import composer
from composer.algebra import Expression, Product, Scale, Sum, sqrt
from composer.cli import app
from composer.data import Data, Frame
from composer.dynamics import Verdict
from composer.evaluate import evaluate
from composer.fit.weights import Weights
from composer.model import Model
from composer.search.archive import Trial, best, standing
from composer.search.cost import cost
from composer.search.cover import Leaves, covers
from composer.search.expansion import Expansion
from composer.search.inherit import numbers
from composer.search.leaf import Leaf
from composer.search.moves import neighbours, normal
from composer.search.noise import SLACK, TRIFLE, margin, noise
from composer.search.plan import Bank
from composer.search.polynomial import polynomial
from composer.search.rank import Parent, rank
from composer.search.study import Study
from composer.search.trial import Task, run
from composer.search.vocabulary import default_vocabulary, lengths
from terms import ZBL, Bond, Density, FourBody, Morse, Pair, ThreeBody
from tests.search.conftest import ANGLES, BOUND, CROWD, LARGE, MORE_ANGLES, SMALL, VOCABULARY, frames, planted


def study(words: list[Expression], data: composer.Data | None = None, **more: object) -> Study:
    data = planted(SMALL + ANGLES, count=8) if data is None else data
    reach = max(Model(t, ["Si"]).cutoff for w in words for t in w.terms())
    return Study(data, Weights(), np.arange(len(data)) % 4, tuple(covers(words, ["Si"])), reach, **more)  # type: ignore[arg-type]


def test_pulls_equal_the_kernel_under_each_weight() -> None:
    """Several species, an image of itself in a small cell, a molecule; forces do not vanish."""
    cell = Frame(("C", "Si", "Si"), np.array([[0.0, 0, 0], [1.4, 1.1, 0.2], [0.3, 2.0, 1.9]]), np.diag([3.1, 3.3, 3.6]), (True, True, True))
    open_ = Frame(("Si", "C"), np.array([[0.0, 0, 0], [1.5, 0.4, 0.3]]), np.zeros((3, 3)), (False, False, False))
    batch = Model(Pair(cutoff=5.0), ["C", "Si"]).prepare([cell, open_])
    seeds = np.random.default_rng(0).normal(size=(batch.atoms, 3))
    for expression in (
        Pair(cutoff=4.5, n_max=3),
        ThreeBody(cutoff=4.0, n_max=2, l_max=2),
        sqrt(Density(cutoff=3.5, n_max=1, positive=True)),
    ):
        leaf = Leaf(expression, ("C", "Si"))
        theta = np.random.default_rng(1).uniform(0.5, 1.5, leaf.size)
        found, wanted = leaf.pulls(batch, theta)(seeds), leaf._pushed(batch, seeds, theta)
        for ours, kernels in zip(found, wanted, strict=True):
            assert np.abs(kernels).max() > 1e-3
            np.testing.assert_allclose(ours, kernels, atol=1e-12 * np.abs(kernels).max())


def test_search_22_equal_expressions_have_one_key_and_unlike_ones_two() -> None:
    chance = random.Random(0)
    leaves = [SMALL, ANGLES, CROWD, BOUND]

    def tree(depth: int) -> tuple:
        if depth == 0 or chance.random() < 0.2:
            return ("leaf", chance.choice(leaves))
        return (chance.choice(["sum", "product"]), [tree(depth - 1) for _ in range(chance.randint(2, 3))])

    def built(node: tuple, shuffled: bool) -> Expression:
        kind, inner = node
        if kind == "leaf":
            return inner
        parts = [built(n, shuffled) for n in inner]
        if shuffled:
            chance.shuffle(parts)
        if shuffled and len(parts) == 3:  # another grouping
            parts = [_join(kind, parts[:2]), parts[2]]
        return _join(kind, parts)

    keys: dict[str, tuple] = {}
    for _ in range(1000):
        node = tree(3)
        plain, other = built(node, False), built(node, True)
        assert plain.digest == other.digest
        known = keys.setdefault(plain.digest, _content(node))
        assert known == _content(node)
    assert len(keys) > 300


def _join(kind: str, parts: list[Expression]) -> Expression:
    return Sum.of([(1.0, p) for p in parts]) if kind == "sum" else Product.of(parts)


def _content(node: tuple) -> tuple:
    """What an expression is, independent of order and grouping: nested multisets."""
    kind, inner = node
    if kind == "leaf":
        return ("leaf", inner.digest)
    parts: list = []
    for part in map(_content, inner):
        parts += part[1] if part[0] == kind else [part]
    return (kind, sorted(parts, key=repr))


def test_moves_are_typed_named_and_each_made_once() -> None:
    moves = neighbours(SMALL + ANGLES, [ZBL(), *VOCABULARY])
    kinds = {m.kind for m in moves}
    assert kinds == {"add", "multiply", "resize", "remove"}
    assert len({m.expression for m in moves}) == len(moves) and SMALL + ANGLES not in {m.expression for m in moves}
    assert SMALL + ANGLES * (1 + CROWD.named("a")) in {m.expression for m in moves}
    assert SMALL + MORE_ANGLES in {m.expression for m in moves} and ANGLES in {m.expression for m in moves}
    again = neighbours(SMALL + ANGLES * (1 + CROWD.named("a")), VOCABULARY)
    assert SMALL + ANGLES in {m.expression for m in again}
    assert any(CROWD.named("b") in m.expression.terms() for m in again)
    held = neighbours(ZBL() + SMALL, [ZBL(), *VOCABULARY])
    assert not any(ZBL() not in m.expression.terms() for m in held)


def test_like_terms_are_tied() -> None:
    a, b = CROWD.named("a"), CROWD.named("b")
    apart, together = SMALL * (1 + a) + ANGLES * (1 + b), (SMALL + ANGLES) * (1 + a)
    (factor,) = [m for m in neighbours(apart, VOCABULARY) if m.kind in ("factor", "tie")]
    assert factor.kind == "factor" and factor.expression == together and factor.ties == ((b.digest, a.digest),)
    (tie,) = [m for m in neighbours(SMALL * (1 + a) * (1 + b), VOCABULARY) if m.kind in ("factor", "tie")]
    assert tie.kind == "tie" and tie.expression == SMALL * (1 + a) ** 2


def test_the_price_of_a_tie_is_what_it_costs() -> None:
    apart, together = SMALL * (1 + CROWD.named("a")) + ANGLES * (1 + CROWD.named("b")), (SMALL + ANGLES) * (1 + CROWD.named("a"))
    words, weights = [SMALL, ANGLES, CROWD], Weights(0.01, 0.02, None)
    made = study(words, data=planted(together, count=12, noise=0.01))
    free = run(Task(made, apart, weights, 0, 0.05, start=np.full(Model(apart, ["Si"]).size, 0.5)))
    parent = Parent(apart, weights, free.strength, numbers(made, apart, free.theta))
    (found,) = rank(made, parent, [m for m in neighbours(apart, words) if m.kind == "factor"], Bank(made, words), 40)
    tied = run(Task(made, together, weights, 0, 0.05, start=found.start, guess=weights, strength=free.strength))
    assert found.parameters == tied.parameters == free.parameters - 1
    realised = tied.criterion - free.criterion
    assert abs(found.change - realised) < 0.02 + 0.2 * abs(realised)


def test_names_alone_make_no_other_expression() -> None:
    a, b = CROWD.named("a"), CROWD.named("b")
    assert normal(SMALL * (1 + b)) == SMALL * (1 + a)
    assert normal(SMALL * (1 + b) + LARGE * (1 + a)).digest == normal(normal(SMALL * (1 + b) + LARGE * (1 + a))).digest
    assert normal(SMALL * (1 + a) * (1 + b)) == SMALL * (1 + a) * (1 + b)


def test_polynomials_multiply_out() -> None:
    found = polynomial((SMALL + 2 * ANGLES) * (1 + CROWD) - SMALL)
    assert dict(found.terms) == {
        (ANGLES.digest,): 2.0,
        tuple(sorted((ANGLES.digest, CROWD.digest))): 2.0,
        tuple(sorted((SMALL.digest, CROWD.digest))): 1.0,
    }
    assert dict(found.derivative(CROWD.digest).terms) == {(ANGLES.digest,): 2.0, (SMALL.digest,): 1.0}


def test_covers_hold_the_columns_of_smaller_terms() -> None:
    words = [SMALL, LARGE, *(ThreeBody(cutoff=4.0, n_max=n, l_max=l) for n, l in ((1, 2), (2, 1), (3, 0))), CROWD]
    for species in (["Si"], ["C", "Si"]):
        made = covers(words, species)
        assert {type(c).__name__ for c in made} == {"Pair", "ThreeBody"}
        leaves = Leaves(species, made)
        for word in words[:-1]:
            leaf = leaves[word]
            assert leaf.cover is not None and len(leaf.places) == leaf.size == Model(word, species).size - len(species)
        assert leaves[CROWD].cover is None


UNLIKE: dict[str, Expression] = {
    "a sum": SMALL + ANGLES,
    "a product": SMALL + ANGLES * (1 + CROWD.named("a")),
    "nested": (SMALL + ANGLES) * (1 + CROWD.named("a") * (1 + LARGE.named("b"))),
    "a power": SMALL**2 + ANGLES,
    "a frozen function": ZBL(outer=2.0) + SMALL * (1 + Scale() * sqrt(Density(cutoff=4.0, n_max=1, positive=True).fix(coefficients=1.0))),
    "a constant in front": 3 * SMALL - ANGLES / 2 + FourBody(cutoff=3.8, n_max=1) * ZBL(outer=2.2),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_expansions_have_the_residuals_of_the_model_itself(name: str) -> None:
    made = study([*UNLIKE[name].terms(), SMALL, LARGE])
    expansion = Expansion(made, UNLIKE[name])
    assert expansion.possible and expansion.linear == (name in ("a sum", "a constant in front"))
    u = np.random.default_rng(1).normal(size=expansion.size)
    errors = evaluate(expansion.model.with_parameters(torch.from_numpy(u[: expansion.model.size])), made.data)
    squares = expansion.squares(u)
    for observable, unit in (("energy", 1000.0), ("forces", 1.0)):
        expected = float(np.sum((errors.error(observable) / unit) ** 2))
        assert sum(s for (o, _), (s, _) in squares.items() if o == observable) == pytest.approx(expected, rel=1e-10)
    step, small = np.random.default_rng(2).normal(size=expansion.size), 1e-6
    slope = expansion.slopes(u) @ step
    assert slope == pytest.approx(
        (expansion.numbers(u + small * step) - expansion.numbers(u - small * step)) / (2 * small), rel=1e-6, abs=1e-6
    )


def test_terms_that_are_not_linear_are_fitted_by_fused_kernels(calm: None) -> None:
    data = planted(Morse(cutoff=4.8), count=12)
    found = composer.search(data, [SMALL], start=Morse(cutoff=4.8), max_parameters=9, budget=2, quiet=True)
    assert found.trials[0].method in ("varpro", "lm") and not any(t.failed for t in found.trials)
    assert [t.kind for t in found.trials] == ["start", "add"] or len(found.trials) == 1


def test_terms_that_read_neighbours_are_added_but_not_multiplied(calm: None) -> None:
    bond = Bond(cutoff=3.6, n_max=2).fix(decay=1.0)
    found = composer.search(planted(SMALL + bond, count=12), [SMALL, bond, CROWD], max_parameters=9, budget=4, quiet=True)
    assert any(bond in t.expression.terms() and not t.failed for t in found.trials)


def test_default_vocabulary_follows_the_data() -> None:
    data = planted(SMALL, count=6)
    words, found = default_vocabulary(["Si"], data), lengths(data)
    assert isinstance(words[0], ZBL) and found.shortest < found.nearest < 3.0
    kinds = {type(t).__name__ for w in words for t in w.terms()}
    assert kinds == {"ZBL", "Pair", "ThreeBody", "FourBody", "Density", "Embedding", "Scale"}
    assert len({w.canonical for w in words}) == len(words) > 100
    mixed = Data([f.__class__(("C", *f.symbols[1:]), f.positions, f.cell, f.pbc, energy=f.energy) for f in data])
    core, pair, *_ = default_vocabulary(["C", "Si"], mixed)
    assert [p[:2] for p in core.outer] == [p[:2] for p in pair.inner] == [("C", "C"), ("C", "Si"), ("Si", "Si")]
    wider = [f.__class__(f.symbols, 1.5 * f.positions, 1.5 * f.cell, f.pbc) for f in frames(6)]
    assert lengths(wider).spacing == pytest.approx(1.5 * lengths(frames(6)).spacing)


def test_cost_grows_with_reach_and_size() -> None:
    sizes = [Model(t, ["Si"]) for t in (SMALL, Pair(cutoff=6.0, n_max=3, inner=1.8), ANGLES, MORE_ANGLES)]
    costs = [cost(m, 0.05) for m in sizes]
    assert costs[0] < costs[1] and costs[2] < costs[3] and cost(sizes[0], 0.1) > costs[0] > 10
    assert costs == [cost(m, 0.05) for m in sizes]


def test_two_species(calm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With screened nuclei (known numbers beside those that are fitted), ranked on a part of the data."""
    monkeypatch.setattr(sys.modules["composer.search.study"], "SAMPLE", 60)
    words = [ZBL(outer=(("Ge", "Si", 1.6), ("Ge", "Ge", 1.4)))]
    words += [Pair(cutoff=4.4, n_max=2, inner=1.8), ThreeBody(cutoff=3.6, n_max=1, l_max=1, inner=1.8), Density(cutoff=4.0, n_max=1)]
    bare = [
        Frame(tuple("Ge" if n % 3 == 0 else s for n, s in enumerate(f.symbols)), f.positions, f.cell, f.pbc, index=f.index)
        for f in frames(10)
    ]
    model = Model(words[0] + words[1] * (1 + words[3].named("a")), ["Si", "Ge"])
    model = model.with_parameters(torch.from_numpy(np.random.default_rng(0).uniform(0.5, 1.0, model.size)))
    result = model(bare)
    bounds = result.batch.offsets.tolist()
    made = [
        Frame(f.symbols, f.positions, f.cell, f.pbc, float(result.energy[n]), result.forces[bounds[n] : bounds[n + 1]].numpy(), index=n)
        for n, f in enumerate(bare)
    ]
    data = Data(made, ["Si", "Ge"])
    found = composer.search(data, words, max_parameters=60, budget=6, quiet=True)
    assert sum(len(f) for f in found.study.sample.data) <= 60 < sum(len(f) for f in data)
    assert not any(t.failed for t in found.trials)
    assert min(t.forces for t in found.trials if not t.failed) < 1e-4
    assert {"Si-Si", "Si-Ge"} <= set(found.best.domain)


def test_search_30_the_report_is_one_file_that_says_all(calm: None, tmp_path: Path) -> None:
    found = composer.search(planted(SMALL + ANGLES, count=15, noise=0.02), VOCABULARY, max_parameters=12, budget=5, quiet=True)
    text = found.report(tmp_path / "report.html").read_text()
    assert text.count("data:image/png;base64,") >= 3 and "src='http" not in text
    for said in (
        "The best potential found",
        "held out by folds",
        "The data determine",
        "price/number",
        "The front",
        "How it was found",
        "What did not help",
        "composer.search(",
        f"{found.winner.parameters} (E0 included)",
        "operations for each atom",
        "energy 0",  # weights
        "one standard deviation by a bootstrap over frames",
    ):
        assert said in text
    assert escape(str(found.winner.expression)) in text
    assert all(f"<td class='t'>{kind}</td>" in text for kind in ("all", "diamond", "bcc", "fcc")) and text.count(" ± ") > 6
    assert all(t.reason in text or "&" in t.reason for t in found.trials)
    with pytest.raises(composer.DataError, match="cannot"):
        found.report(tmp_path / "missing" / "report.html")


def test_where_none_may_win_the_best_refused_trial_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.modules["composer.search.jury"], "examine", lambda _: Verdict(False, "atoms fuse"))
    found = composer.search(planted(SMALL + ANGLES, count=15, noise=0.02), VOCABULARY, max_parameters=12, budget=2, quiet=True)
    assert found.refused is not None and found.refused in found.pareto and "atoms fuse" in found.refused.reason
    place = found.trials.index(found.refused)
    with pytest.raises(composer.DataError, match=rf"larger budget.*found.trials\[{place}\]"):
        _ = found.winner
    assert "atoms fuse" in str(found).splitlines()[-1]
    model = found.model(found.trials[place])
    assert model.provenance["refused"] == found.refused.reason
    monkeypatch.setattr(composer, "search", lambda *_, **__: found)
    asked = ["search", "silicon.xyz.xz", "--out", str(tmp_path / "best.composer"), "--report", str(tmp_path / "again.html")]
    told = CliRunner().invoke(app, asked)
    assert (
        told.exit_code == 1 and "--budget" in told.output and "atoms fuse" in told.output and str(found.refused.expression) in told.output
    )
    payload = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert len(payload["trials"]) == len(found.trials) and payload["files"] == [str(tmp_path / "again.html")]
    assert not (tmp_path / "best.composer").exists()


def test_a_gain_counts_beyond_noise_or_a_trifle() -> None:
    chance = np.random.default_rng(0)
    before, after = chance.uniform(0.5, 2.0, (2, 5)), chance.uniform(0.5, 2.0, (2, 5))

    def criterion(squares: np.ndarray, draws: np.ndarray) -> np.ndarray:
        return np.sum([0.5 * np.log(draws @ q) for q in squares], axis=0)

    small = 1 + 0.01 * chance.normal(size=(200_000, 5))  # weights of the folds near one: the first-order change of a bootstrap
    spread = np.std(criterion(after, small) - criterion(before, small)) / 0.01
    held = [{"energy": q[0].tolist(), "forces": q[1].tolist()} for q in (before, after)]
    assert noise(*held) == pytest.approx(np.sqrt(5 / 4) * spread, rel=0.02)
    assert noise(held[0], held[0]) == 0.0 and margin(held[0], held[0]) == SLACK and margin(*held) == TRIFLE
    assert noise({}, {}) == noise({"forces": [1.0]}, {"forces": [2.0]}) == 0.0  # nothing is known without folds


def trial(parameters: int, criterion: float, squares: list[float]) -> Trial:
    return Trial(str(parameters), parameters, SMALL, parameters=parameters, criterion=criterion, held={"forces": squares})


def test_standing_trials_are_worth_their_numbers() -> None:
    even, uneven = [1.0] * 5, [1.05, 0.95, 1.0, 1.02, 0.98]
    known = [trial(4, -1.0, even), trial(5, -1.005, uneven), trial(6, -1.03, uneven), trial(7, -1.032, even), trial(8, -1.0, even)]
    assert [t.parameters for t in standing(known)] == [4, 6]  # 5 is within noise; 7 too, beside 6; 8 is worse
    known[2].stable = False
    assert best(known) is known[3]  # 7 is better than 4 by more than a trifle
    assert best([]) is None


def test_the_winner_is_pruned_of_a_factor_that_is_worth_nothing(calm: None) -> None:
    data = planted(SMALL + ANGLES, count=15, noise=0.05)
    idle = SMALL + ANGLES * (1 + CROWD.named("a"))
    found = composer.search(data, VOCABULARY, start=idle, max_parameters=14, budget=1, quiet=True)
    assert [t.kind for t in found.trials] == ["start", "prune"] and found.winner.expression == SMALL + ANGLES
    assert found.winner.criterion < found.trials[0].criterion + TRIFLE and "removal" in found.winner.reason
    whole = composer.search(planted(idle, count=15), VOCABULARY, start=idle, max_parameters=14, budget=1, quiet=True)
    assert whole.winner.expression == idle  # here the factor is the truth
