"""Pictures are figures without global state that draw, save and hold what they were given."""

import io

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.figure import Figure

import analysis


def png(figure: Figure) -> bytes:
    """Bytes of the picture, drawn without any window."""
    out = io.BytesIO()
    figure.savefig(out, format="png")
    assert not _pylab_helpers.Gcf.figs  # pyplot knows nothing of it
    return out.getvalue()


def test_pictures_draw() -> None:
    random = np.random.default_rng(20)
    factor = analysis.factorize(np.vander(np.linspace(0, 1, 50), 12), np.zeros(50))
    found = analysis.fisher_spectrum(factor)
    angles = analysis.term_angles(factor, {"pair": [0, 1, 2], "three": [3, 4], "E0": [11]})
    x = random.normal(size=60)
    volumes = np.linspace(15, 25, 9)
    figures = [
        analysis.plot_spectrum({"all": found, "energy": found}, {"all": np.full(12, 0.2)}),
        analysis.plot_term_correlation(["pair", "three", "E0"], angles),
        analysis.plot_parity(
            {"energy (eV/atom)": (x, x + 0.1), "force (eV/Å)": (random.normal(size=5000), random.normal(size=5000))},
            {"energy (eV/atom)": ["bulk", "slab"] * 30},
        ),
        analysis.plot_pareto([10, 20, 30], [3.0, 1.0, 2.0], ["a", "b", "c"], colors=[1.0, 2.0, 3.0]),
        analysis.plot_energy_volume({"diamond": (volumes, (volumes - 20) ** 2, (volumes - 20.1) ** 2), "fcc": (volumes, volumes, None)}),
    ]
    assert all(png(figure).startswith(b"\x89PNG") for figure in figures)
    assert "RMSE 0.1 eV/atom" in figures[2].axes[0].texts[0].get_text()
    assert [text.get_text() for text in figures[2].legends[0].texts] == ["bulk", "slab"]
    many = [f"kind {k}" for k in range(12)] * 5
    legend = analysis.plot_parity({"energy (eV/atom)": (x, x)}, {"energy (eV/atom)": many}).legends[0]
    assert len({tuple(np.atleast_1d(line.get_color())) for line in legend.get_lines()}) == 12
    assert [text.get_text() for text in figures[3].axes[0].texts] == ["a", "b"]


@pytest.mark.parametrize("seed", range(3))
def test_pareto_front_is_what_nobody_beats(seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 9, size=(2, 40)).astype(float)
    y[3] = np.nan  # a failed trial
    front = analysis.pareto_front(x, y)
    beaten = [any((x[j] <= x[i]) & (y[j] <= y[i]) & ((x[j] < x[i]) | (y[j] < y[i])) for j in range(40)) for i in range(40)]
    points = {(x[i], y[i]) for i in range(40) if not beaten[i] and i != 3}
    assert {(x[i], y[i]) for i in front} == points and len(front) == len(points)
    assert analysis.pareto_front([1.0, 2.0], [2.0, 1.0]) == [0, 1]
