"""Every kind of row of the benchmark of GPUs runs, on crystals of a few atoms, with the CUDA text compiled as C++. Its times say nothing."""

from __future__ import annotations

import pytest

from benchmarks import gpu, training
from benchmarks.gpu import GPU, rows
from benchmarks.gpu_place import Place, elsewhere
from benchmarks.timing import Row
from terms import NEP
from tests.cuda.shim import shim

HERE = Place("cpu", shim, cells=3)


@pytest.mark.parametrize(
    "only",
    [
        "rate of the device",
        "kernels",
        "LJ 1,000,188: E",
        "LJ 1,000,188: eager",
        "LJ 1,000,188: list",
        "LJ 1,000,188: training",
        "SW 200",
        "mesh",
    ],
)
def test_rows_run(only: str) -> None:
    found = list(rows(only, repeats=1, here=HERE))
    assert found
    for row in found:
        assert (row.ours is not None and row.ours > 0) or "not installed" in row.note or "long-range" in row.note, row


def test_a_row_that_fails_or_has_no_time_says_so_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("an illegal memory access\nand more")

    monkeypatch.setattr(gpu, "copy_row", broken)
    failed, other = rows("rate of the device", repeats=1, here=HERE)
    assert failed.ours is None and failed.note == "RuntimeError: an illegal memory access"
    assert other.ours is not None and other.ours > 0
    (late,) = rows("=matrix rate of the device, float32", repeats=1, here=HERE, limit=0.0)
    assert late.ours is None and "left out" in late.note


@pytest.mark.skipif(not GPU.missing, reason="a GPU is here: the row is measured")
def test_a_row_can_be_measured_by_a_process_of_its_own() -> None:
    name = "matrix rate of the device, float32"
    found = elsewhere(Row(name, None, None, None, "TFLOP/s"), 1, 100.0)
    assert found.ours is None and found.note == f"{GPU.missing}; in a process of its own"


def test_a_training_says_what_it_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    small = NEP(cutoff=(4, 3.5), n_max=(0, 0), basis=(2, 2), l_max=(1, 0, 0), neurons=2)
    monkeypatch.setattr(training, "MODEL", small)
    (row,) = rows("NEP training", repeats=1, here=HERE)
    assert "not in the reference data" in row.note or ("meV/atom" in row.note and row.ours is None), row


@pytest.mark.skipif(not GPU.missing, reason="a GPU is here: rows are measured")
def test_without_a_gpu_every_row_says_why_it_is_empty() -> None:
    found = list(rows())
    assert len(found) > 20
    assert all(row.ours is None and row.note == GPU.missing for row in found)
