"""CUDA text is accepted by NVRTC, without a GPU: every expression of the catalogue."""

from __future__ import annotations

import pytest

from composer.errors import BackendError
from composer.runtime import nvrtc
from composer.runtime.cuda_batch import KERNELS, SOURCE
from composer.runtime.cuda_kernel import CudaKernel
from composer.runtime.launch import Builder
from tests.catalogue import CATALOGUE
from tests.cuda.conftest import model_of

ARCHITECTURE = "sm_90"


def refuse(source: str, names: object) -> list:
    raise AssertionError("nothing is launched here")


def kernel_of(name: str, kind: str, single: bool = True, fixed: bool = False, build: Builder = refuse) -> CudaKernel:
    model = model_of(name)
    mirrored = kind == "forces" and model.halved is not None
    return CudaKernel(kind, model.program(kind), model.layout, build, single, fixed, mirrored)


# First of all: the hurry of the tests below stays in NVRTC for as long as the process runs.
@pytest.mark.parametrize("name", ["LennardJones", "Embedding, sqrt", "StillingerWeber", "Tersoff"])
def test_a_kernel_of_few_neighbours_stays_in_its_registers(name: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSER_CACHE", str(tmp_path))
    (usage,) = nvrtc.compiled(kernel_of(name, "forces").source, ARCHITECTURE).usage().values()
    assert usage.registers <= 128
    assert usage.spills == 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """A compiler in a hurry, and a cache of its own."""
    monkeypatch.setattr(nvrtc, "OPTIONS", (*nvrtc.OPTIONS, "--Ofast-compile=max"))
    monkeypatch.setenv("COMPOSER_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", CATALOGUE)
def test_forces_compile(name: str, quick: None) -> None:
    kernel = kernel_of(name, "forces")
    made = nvrtc.compiled(kernel.source, ARCHITECTURE)
    assert made.cubin.startswith(b"\x7fELF")
    assert set(made.usage()) == {s.name for s in kernel.stages}


@pytest.mark.parametrize("kind", ["gradient", "parameters", "tangent", "columns"])
@pytest.mark.parametrize("name", ["Morse", "StillingerWeber", "NEP5, radial"])
def test_derivatives_by_parameters_compile(name: str, kind: str, quick: None) -> None:
    assert nvrtc.compiled(kernel_of(name, kind, single=kind != "columns").source, ARCHITECTURE).usage()


@pytest.mark.parametrize("single", [True, False])
def test_deterministic_forces_compile(single: bool, quick: None) -> None:
    assert nvrtc.compiled(kernel_of("stages", "forces", single, fixed=True).source, ARCHITECTURE).usage()


def test_lists_of_neighbours_compile_and_come_from_the_cache_the_second_time(quick: None) -> None:
    made = nvrtc.compiled(SOURCE, ARCHITECTURE)
    assert set(made.usage()) == set(KERNELS)
    assert nvrtc.compiled(SOURCE, ARCHITECTURE) == made


def test_text_that_is_wrong_says_where(quick: None) -> None:
    with pytest.raises(BackendError, match="identifier"):
        nvrtc.compiled('extern "C" __global__ void wrong() { unknown(); }', ARCHITECTURE)
