"""`fit(check=True)`: every harm to a set of frames is found by a quick model, and the frames are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import composer
from composer.data import Data, Frame
from composer.errors import DataError
from composer.evaluate import VOIGT
from composer.fit.checking import check_data, strained
from composer.fit.fitting import _quickly
from composer.model import Model
from terms import NEP


def reordered(frame: Frame) -> Frame:
    """xx yy zz xy yz zx, as GPUMD writes them, read as xx yy zz yz xz xy."""
    six, full = frame.stress[VOIGT][[0, 1, 2, 5, 3, 4]], np.zeros((3, 3))  # type: ignore[index]
    full[VOIGT] = six
    return replace(frame, stress=full + np.triu(full.T, 1) + np.tril(full.T, -1))


ALL: dict[str, tuple[Callable[[Frame], Frame], str]] = {
    "sign of virials": (lambda f: replace(f, stress=-f.stress), "-0.* times the strain derivative.*the other sign"),  # type: ignore[operator]
    "GPa": (lambda f: replace(f, stress=160.2177 * f.stress), "times the strain derivative.*: GPa"),  # type: ignore[operator]
    "virials as stresses": (lambda f: replace(f, stress=-f.volume * f.stress), "under the name of a stress"),  # type: ignore[operator]
    "order": (reordered, "as xx yy zz xy yz xz, not as xx yy zz yz xz xy"),
}
SOME: dict[str, tuple[Callable[[Frame], Frame], str]] = {
    "sign of some virials": (lambda f: replace(f, stress=-f.stress), "stress.*Those of frame 8 are -1 times"),  # type: ignore[operator]
    "no virial": (lambda f: replace(f, stress=None), "1 of 10 periodic frames have no virial or stress: frame 8"),
    "a mark": (lambda f: replace(f, stress=-1e6 * np.eye(3)), "eV/atom stand in frame 8"),
    "energies in Ha": (lambda f: replace(f, energy=f.energy / 27.2114), "energy.*frame 8 are 0.0367 times.*: Ha"),  # type: ignore[operator]
    "forces in meV": (lambda f: replace(f, forces=1e3 * f.forces), r"forces.*frame 8 are 1e\+03 times.*: meV/Å"),  # type: ignore[operator]
    "sign of some forces": (lambda f: replace(f, forces=-f.forces), "forces.*frame 8 are -1 times"),  # type: ignore[operator]
    "another element": (lambda f: replace(f, symbols=("Ge", *f.symbols[1:])), "Ge stands in frame 8"),
}


def test_right_data_pass(model: Model, frames: list) -> None:
    said = check_data(model, Data(frames), _quickly)
    assert "10 of 10 frames have forces" in said and "stresses are 1" in said or "stresses are 0.9" in said
    assert "no frame has a stress" in check_data(model, Data([replace(f, stress=None) for f in frames]), _quickly)


@pytest.mark.parametrize(("harm", "says"), ALL.values(), ids=ALL)
def test_harm_to_all_frames(model: Model, frames: list, harm: Callable[[Frame], Frame], says: str) -> None:
    with pytest.raises(DataError, match=says):
        composer.fit(model, Data([harm(f) for f in frames]), check=True, quiet=True)


@pytest.mark.parametrize(("harm", "says"), SOME.values(), ids=SOME)
def test_harm_to_one_frame(model: Model, frames: list, harm: Callable[[Frame], Frame], says: str) -> None:
    with pytest.raises(DataError, match=says):
        composer.fit(model, Data([harm(f) if f.index == 8 else f for f in frames]), check=True, quiet=True)


def test_the_strain_derivative_is_the_stress_of_the_model(model: Model, frames: list) -> None:
    wanted = model(frames[:1]).stress[0].numpy()[VOIGT] * frames[0].volume / 8
    np.testing.assert_allclose(strained(model, frames[0]), wanted, rtol=1e-6, atol=1e-7 * np.abs(wanted).max())


def test_a_start_without_scales_is_scaled_and_the_fit_goes_on(frames: list, capsys: pytest.CaptureFixture[str]) -> None:
    start = composer.compile(NEP(cutoff=(5, 4), n_max=(2, 2), basis=(4, 4), l_max=(2, 0, 0), neurons=6), ["Si"], quiet=True)
    composer.fit(start, Data(frames), epochs=1, check=True)
    assert "check: stresses are" in capsys.readouterr().out
