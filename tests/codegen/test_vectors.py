"""Values along static ranges in whole vectors: ranges shorter and longer than one, and no multiples of it, against the reference."""

from __future__ import annotations

import pytest

from composer.codegen.along import pieces
from composer.codegen.places import FEWEST, LANES, flat, size_of
from composer.ir.indices import Range
from terms import NEP
from tests.laws import test_back_ends as laws
from tests.laws.subjects import Subject


def test_sums_tables_and_dot_products() -> None:
    """Forces and second derivatives; the rows of neighbours are turned for 11 channels."""
    radials, angulars, basis = 3, 11, 9
    term = NEP(cutoff=(4.5, 3.5), n_max=(radials - 1, angulars - 1), basis=(basis, basis), l_max=(3, 2, 0), neurons=9)
    subject = Subject("NEP", term, ["Si", "O"])
    assert "turn(z0" in subject.model.kernel("forces").code.text
    laws.test_energies_forces_and_virial_equal_the_reference(subject)
    laws.test_gradient_of_a_loss_on_all_outputs_equals_double_backward(subject)


@pytest.mark.parametrize("size", range(1, 20))
def test_arrays_have_room_for_their_vectors(size: int) -> None:
    rows, index = Range("row", 3), Range("column", size)
    room = size_of((rows, index), padded=True)
    places = {flat((rows, index), {"row:3": str(r), index.key: str(c)}, padded=True) for r in range(3) for c in range(size)}
    assert len(places) == 3 * size and size_of((rows, index)) == 3 * size
    covered = [n for start, length in pieces(size) for n in range(int(start), int(start) + int(length))]
    assert covered == list(range(size))
    if size >= FEWEST:
        assert room % LANES == 0 and all(int(start) + LANES <= room // 3 for start, _ in pieces(size))
