"""On a GPU: the kernels give what the CPU gives, in the order of the stream, inside CUDA graphs. Without one: what is said instead."""

from __future__ import annotations

import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import composer
from composer.errors import BackendError
from composer.model.device import DeviceModel
from tests.catalogue import CATALOGUE
from tests.cuda.conftest import close, crystal, model_of

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


def on_device(name: str, dtype: str = "float64", deterministic: bool = False) -> DeviceModel:
    expression, species = CATALOGUE[name]
    made = composer.compile(expression, species, quiet=True, device="cuda", dtype=dtype, deterministic=deterministic)
    return made.with_parameters(model_of(name).theta)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: nothing is refused")
def test_without_a_device_the_error_says_what_is_missing_and_what_to_type() -> None:
    expression, species = CATALOGUE["Morse"]
    with pytest.raises(BackendError, match=r"cuda.*(no CUDA|no GPU).*device='cpu'"):
        composer.compile(expression, species, quiet=True, device="cuda")


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(BackendError, match="knows no such device"):
        composer.compile(CATALOGUE["Morse"][0], CATALOGUE["Morse"][1], device="gpu", quiet=True)


def test_float32_on_the_cpu_is_refused() -> None:
    expression, species = CATALOGUE["Morse"]
    with pytest.raises(BackendError, match="device='cuda'"):
        composer.compile(expression, species, quiet=True, dtype="float32")


@on_gpu
@pytest.mark.parametrize("name", CATALOGUE)
def test_energies_forces_and_virial_are_those_of_the_cpu(name: str) -> None:
    model = model_of(name)
    structures = [crystal(model.species, 0), crystal(model.species, 1)]
    expected, found = model(structures), on_device(name)(structures)
    close(found.energy.cpu(), expected.energy, 1e-11)
    close(found.forces.cpu(), expected.forces, 1e-11)
    close(found.stress.cpu(), expected.stress, 1e-11)


@on_gpu
@pytest.mark.parametrize("name", CATALOGUE)
def test_numbers_of_four_bytes_keep_four_digits(name: str) -> None:
    model = model_of(name)
    structure = crystal(model.species, 0)
    expected, found = model(structure), on_device(name, "float32")(structure)
    close(found.forces.cpu(), expected.forces, 1e-4)


@on_gpu
@pytest.mark.parametrize("name", ["Morse", "StillingerWeber", "NEP5, radial", "stages", "Coulomb, learned"])
def test_jacobians_are_those_of_the_cpu(name: str) -> None:
    model = model_of(name)
    structure = crystal(model.species, 0)
    expected, found = model.jacobian(structure), on_device(name).jacobian(structure)
    close(found.energy.cpu(), expected.energy, 1e-11)
    close(found.forces.cpu(), expected.forces, 1e-11)


@on_gpu
@pytest.mark.parametrize("name", ["Embedding, sqrt", "StillingerWeber", "stages", "Coulomb", "Coulomb, of the surroundings"])
def test_deterministic_forces_are_equal_bit_for_bit(name: str) -> None:
    model = on_device(name, "float32", deterministic=True)
    batch = model.prepare(crystal(model.host.species, 0) * (6, 6, 6))
    first = model(batch).forces
    assert all(torch.equal(model(batch).forces, first) for _ in range(5))


@on_gpu
def test_work_queued_before_and_after_a_call_keeps_its_order() -> None:
    model = on_device("Morse")
    atoms = crystal(model.host.species, 0)
    batch = model.prepare(atoms, skin=1.0)
    evaluation = model.evaluation(batch)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10**8)  # the device is busy when what follows is queued
        batch.positions[0] += 0.1
        evaluation.run()
        kept = evaluation.slopes.clone()
        batch.positions[0] -= 0.1
    stream.synchronize()
    atoms.positions[0] += 0.1
    close(kept.cpu(), model.host(atoms).forces, 1e-11)


@on_gpu
def test_a_thread_that_has_no_context_yet_may_run_an_evaluation() -> None:
    model = on_device("StillingerWeber")
    atoms = crystal(model.host.species, 0)
    evaluation = model.evaluation(model.prepare(atoms))
    torch.cuda.synchronize()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(evaluation.run).result()
    torch.cuda.synchronize()
    close(evaluation.forces.cpu(), model.host(atoms).forces, 1e-11)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs on this machine")
@pytest.mark.parametrize("name", ["StillingerWeber", "Coulomb"])
def test_a_model_stays_on_its_gpu_whichever_is_the_present_one(name: str) -> None:
    expression, species = CATALOGUE[name]
    model = composer.compile(expression, species, quiet=True, device="cuda:1", dtype="float64")
    atoms = crystal(species, 0)
    assert torch.cuda.current_device() == 0
    found = model(atoms).forces
    assert found.device == torch.device("cuda:1")
    close(found.cpu(), model.host(atoms).forces, 1e-11)


@on_gpu
def test_no_call_waits_for_the_device() -> None:
    model = on_device("StillingerWeber")
    batch = model.prepare(crystal(model.host.species, 0) * (4, 4, 4), skin=1.0)
    evaluation = model.evaluation(batch)
    model(batch).stress.cpu()
    with warnings.catch_warnings(action="ignore"):  # it says that it does not see all
        torch.cuda.set_sync_debug_mode("error")
    try:
        evaluation.run()
        batch.look()
        found = evaluation.energy, evaluation.forces, evaluation.virial, model(batch).stress
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(bool(torch.isfinite(t).all()) for t in found)


@on_gpu
@pytest.mark.parametrize("name", ["LennardJones", "StillingerWeber"])
def test_a_million_atoms_feel_finite_forces_that_sum_to_zero(name: str) -> None:
    model = on_device(name, "float32")
    atoms = crystal(model.host.species, 0) * (50, 50, 50)
    found = model(atoms)
    assert bool(torch.isfinite(found.energy).all()) and bool(torch.isfinite(found.forces).all())
    assert float(found.forces.sum(0).abs().max()) <= 1e-5 * float(found.forces.abs().sum())
    few = slice(0, 8 * 50)  # all atoms of a cell feel the same in every cell
    assert torch.allclose(found.forces[:8].repeat(50, 1), found.forces[few], rtol=0, atol=1e-4 * float(found.forces.abs().max()))


@on_gpu
@pytest.mark.parametrize("name", ["StillingerWeber", "Coulomb"])
def test_a_cuda_graph_holds_an_evaluation(name: str) -> None:
    model = on_device(name)
    atoms = crystal(model.host.species, 0) * (2, 2, 2)
    batch = model.prepare(atoms, skin=1.0)
    evaluation = model.evaluation(batch)
    evaluation.run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        evaluation.run()
        batch.look()
    atoms.positions[:3] += 0.2
    batch.positions.copy_(torch.from_numpy(atoms.positions))
    graph.replay()
    torch.cuda.synchronize()
    close(evaluation.forces.cpu(), model.host(atoms).forces, 1e-11)
    assert int(batch.stale) == 0


@on_gpu
def test_the_page_about_gpus_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "how-to" / "gpu.md"
    namespace: dict = {"__name__": "__page__"}
    for text in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S):
        exec(compile(text, str(page), "exec"), namespace)


@on_gpu
def test_lists_of_a_large_crystal_have_the_pairs_of_the_cpu() -> None:
    model = on_device("Morse")
    atoms = crystal(model.host.species, 0) * (12, 12, 12)
    batch, expected = model.prepare(atoms, skin=1.0), model.host.prepare(atoms, skin=1.0)
    pairs = len(expected.index) * (2 if expected.half else 1)
    assert int(batch.count.sum()) == pairs
    close(model(batch).forces.cpu(), model.host(expected).forces, 1e-11)
