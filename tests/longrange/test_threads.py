"""One large system on several threads: cut in pieces that depend on sizes alone."""

from __future__ import annotations

import pytest
import torch

import composer
from composer import longrange
from composer.runtime import threads
from tests.longrange.systems import salt


@pytest.mark.parametrize("tilted", [False, True])
def test_results_do_not_depend_on_the_number_of_threads(tilted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit, with more blocks and pieces than one; and the pieces sum to what a sum over k gives."""
    monkeypatch.setattr(threads, "_count", None)
    x, q, cell = salt(8, tilted=tilted)
    sums = longrange.prepare(x, cell, accuracy=1e-4, method="mesh")
    found = []
    for count in (1, 2, 3):
        composer.set_threads(count)
        found.append(sums.evaluate(x, q, cell))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))
    small = longrange.prepare(x, cell, accuracy=1e-9, method="mesh").evaluate(x, q, cell)
    assert abs(float(small.energy / found[0].energy) - 1) < 1e-4
