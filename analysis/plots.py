"""Pictures: spectra, angles between terms, parity, Pareto fronts, energy-volume curves.

Every function returns a `matplotlib.figure.Figure` that belongs to no window and no global state: save it with
`figure.savefig("name.png")`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .factors import FloatArray
from .spectrum import Spectrum

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b6b6b")  # told apart by colour-blind eyes
GREY, LIGHT = "#555555", "#d9d9d9"


def plot_spectrum(spectra: Mapping[str, Spectrum], errors: Mapping[str, ArrayLike] | None = None) -> Figure:
    """Eigenvalues l_k / l_1 of each spectrum as a ladder on a logarithmic axis; rounding is not drawn, what is determined (`rank`) is counted.

    Arguments: spectra by name; errors, standard deviations [P'] of log10 l_k by the same names (from `bootstrap`), shaded.
    """
    figure, axes = _figure(1.8 + 1.5 * len(spectra), 4.6)
    lowest = 1.0
    for x, (name, found) in enumerate(spectra.items()):
        solid = ~found.rounding
        values, color = found.eigenvalues[solid] / found.eigenvalues.max(initial=1e-300), COLORS[x % len(COLORS)]
        axes.hlines(values, x - 0.3, x + 0.3, color=color, linewidth=1.1)
        if errors is not None and name in errors:
            spread = 10 ** np.asarray(errors[name], dtype=np.float64)[solid]
            for value, factor in zip(values, spread):
                axes.fill_between([x - 0.3, x + 0.3], value / factor, value * factor, color=color, alpha=0.25, linewidth=0)
        lowest = min(lowest, float(values.min(initial=1.0)))
        more = "" if solid.all() else "> "
        axes.text(
            x,
            1.02,
            f"{more}{found.decades:.1f} decades\n{found.rank()} of {len(solid)} directions",
            fontsize=8,
            color=GREY,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
        )
    axes.set_yscale("log")
    axes.set_ylim(lowest / 10, 3)
    axes.set_xticks(range(len(spectra)), list(spectra))
    axes.set_xlim(-0.6, len(spectra) - 0.4)
    axes.set_ylabel(r"eigenvalue of the unit-free information, $\lambda_k/\lambda_1$")
    return figure


def plot_term_correlation(names: Sequence[str], angles: FloatArray) -> Figure:
    """Heat map of the smallest principal angle between terms on a logarithmic scale: dark is redundant.

    Arguments: names [T]; angles [T, T] in degrees from `term_angles`. Cells show the angle where there are at most 12 terms.
    """
    count = len(names)
    figure, axes = _figure(2.8 + 0.62 * count, 1.7 + 0.56 * count, grid=False)
    others = np.where(np.eye(count, dtype=bool), np.nan, np.clip(angles, 1e-2, 90.0))
    image = axes.imshow(others, cmap="Blues_r", norm=LogNorm(1e-2, 90.0))
    axes.set_facecolor("#eeeeee")  # the diagonal
    for a, b in np.ndindex(count, count) if count <= 12 else ():
        if a != b:
            label = "<0.01°" if angles[a, b] < 0.01 else f"{angles[a, b]:.2g}°"
            axes.text(b, a, label, ha="center", va="center", fontsize=8, color="white" if angles[a, b] < 1.0 else "black")
    axes.set_xticks(range(count), list(names), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), list(names))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label="smallest angle between terms", shrink=0.9, format="{x:g}°")
    bar.set_ticks([0.01, 0.1, 1, 10, 90])
    bar.ax.minorticks_off()
    return figure


def plot_parity(
    panels: Mapping[str, tuple[ArrayLike, ArrayLike]], groups: Mapping[str, Sequence[Any]] | None = None, dense: int = 3000
) -> Figure:
    """Model against reference, one panel for each observable, with RMSE and MAE and the errors below.

    Arguments: panels, (reference, model) by a label that ends in the unit in brackets, e.g. "force (eV/Å)"; groups, the
    config_type of each point by the same label (colours); dense, points above which density is drawn and groups are not.
    """
    colors = _colors(kind for label in panels for kind in ([""] if groups is None else groups.get(label, [""])))
    figure = Figure(figsize=(3.5 * len(panels), 4.4 + 0.09 * len(colors) / len(panels)), layout="constrained", dpi=120)
    grid = figure.subplots(2, len(panels), squeeze=False, height_ratios=(3, 1), sharex="col")
    for column, (label, (reference, model)) in enumerate(panels.items()):
        x, y = np.ravel(np.asarray(reference, dtype=np.float64)), np.ravel(np.asarray(model, dtype=np.float64))
        top, bottom = grid[0, column], grid[1, column]
        name, _, unit = label.partition(" (")
        unit = unit.rstrip(")")
        kinds = [""] * len(x) if groups is None else [str(kind) for kind in groups.get(label, [""] * len(x))]
        _cloud(top, x, y, kinds, colors, dense)
        _cloud(bottom, x, y - x, kinds, colors, dense)
        edge = np.array([min(x.min(), y.min()), max(x.max(), y.max())])
        top.plot(edge, edge, color=GREY, linewidth=0.8, zorder=0)
        bottom.axhline(0.0, color=GREY, linewidth=0.8, zorder=0)
        error = y - x
        top.text(
            0.97,
            0.04,
            f"RMSE {np.sqrt(np.mean(error**2)):.3g} {unit}\nMAE {np.mean(np.abs(error)):.3g} {unit}",
            transform=top.transAxes,
            ha="right",
            va="bottom",
            fontsize=8,
        )
        top.set_ylabel(f"model {label}")
        bottom.set_xlabel(f"reference {label}")
        bottom.set_ylabel("error")
        top.set_title(name, fontsize=10)
        for axes in (top, bottom):
            _style(axes)
    figure.align_ylabels()
    if any(colors) and any(len(np.ravel(np.asarray(x))) <= dense for x, _ in panels.values()):
        handles = [grid[0, 0].plot([], [], "o", markersize=5, color=color, label=kind)[0] for kind, color in colors.items() if kind]
        figure.legend(handles=handles, loc="outside lower center", ncols=2 * len(panels), fontsize=7, frameon=False)
    return figure


def plot_pareto(
    x: ArrayLike,
    y: ArrayLike,
    labels: Sequence[str] | None = None,
    sizes: ArrayLike | None = None,
    axis_names: tuple[str, str, str] = ("parameters", "force RMSE (eV/Å)", "energy RMSE (meV/atom)"),
    colors: ArrayLike | None = None,
) -> Figure:
    """Trials as points and the front of non-dominated ones (both axes lower is better) as a line.

    Arguments: x, y [n]; labels [n], written at members of the front; sizes [n], areas; colors [n], a third objective on a
    logarithmic colour scale; axis_names of x, y and colour.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    figure, axes = _figure(6.6, 4.4)
    front = pareto_front(a, b)
    axes.step(a[front], b[front], where="post", color=GREY, linewidth=1.0, zorder=1)
    area = 28.0 if sizes is None else 12.0 + 120.0 * np.asarray(sizes, dtype=np.float64) / np.max(np.asarray(sizes))
    shade = COLORS[0] if colors is None else np.asarray(colors, dtype=np.float64)
    norm = None if colors is None else LogNorm()
    edge = np.where(np.isin(np.arange(len(a)), front), "black", "white")
    dots = axes.scatter(
        a, b, s=area, c=shade, norm=norm, cmap=None if norm is None else "viridis", edgecolors=edge.tolist(), linewidths=0.8, zorder=2
    )
    if norm is not None:
        figure.colorbar(dots, ax=axes, label=axis_names[2])
    axes.set_xlabel(axis_names[0])
    axes.set_ylabel(axis_names[1])
    axes.set_yscale("log")
    axes.margins(x=0.12)
    for axis in [axes.yaxis] if norm is None else [axes.yaxis, figure.axes[-1].yaxis]:
        low, high = axis.get_view_interval()
        axis.set_major_formatter("{x:g}")
        if high < 30 * low:  # else the minor labels would overlap
            axis.set_minor_formatter("{x:g}")
    for member in _apart(a[front], np.log(b[front])) if labels is not None and front else []:
        axes.annotate(
            (labels or [])[front[member]], (a[front[member]], b[front[member]]), (5, 5), textcoords="offset points", fontsize=7, color=GREY
        )
    return figure


def plot_energy_volume(curves: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike | None]]) -> Figure:
    """Energy against volume by phase: reference points and model lines.

    Arguments: curves by phase, (volume [n] in Å^3/atom, reference [n] or empty, model [n] or None) energies in eV/atom.
    """
    figure, axes = _figure(6.2, 4.4)
    for number, (phase, (volume, reference, model)) in enumerate(curves.items()):
        order = np.argsort(np.asarray(volume, dtype=np.float64), kind="stable")
        x, color = np.asarray(volume, dtype=np.float64)[order], COLORS[number % len(COLORS)]
        if np.size(reference):
            axes.plot(
                x,
                np.asarray(reference)[order],
                "o",
                markersize=4,
                markerfacecolor="white",
                color=color,
                label=phase if model is None else None,
            )
        if model is not None:
            axes.plot(x, np.asarray(model)[order], "-", linewidth=1.4, color=color, label=phase)
    axes.plot([], [], "o", markersize=4, markerfacecolor="white", color=GREY, label="reference")
    axes.set_xlabel("volume (Å³/atom)")
    axes.set_ylabel("energy (eV/atom)")
    axes.legend(frameon=False, fontsize=8)
    return figure


def pareto_front(x: ArrayLike, y: ArrayLike) -> list[int]:
    """Indices of points that no other point beats in both x and y (lower is better), sorted by x."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    front: list[int] = []
    for index in np.lexsort((b, a)):
        if np.isfinite(b[index]) and (not front or b[index] < b[front[-1]]):
            front.append(int(index))
    return front


def _figure(width: float, height: float, grid: bool = True) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    axes = figure.subplots()
    if grid:
        _style(axes)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=LIGHT, linewidth=0.4)
    axes.set_axisbelow(True)


def _cloud(axes: Axes, x: FloatArray, y: FloatArray, kinds: Sequence[str], colors: Mapping[str, Any], dense: int) -> None:
    if len(x) > dense:
        axes.hexbin(x, y, gridsize=80, cmap="viridis", bins="log", mincnt=1, linewidths=0.1)
        return
    names = np.array(kinds)
    for name in dict.fromkeys(kinds):
        member = names == name
        axes.plot(x[member], y[member], "o", markersize=2.6, alpha=0.7, markeredgewidth=0, color=colors[name])


def _colors(kinds: Iterable[Any]) -> dict[str, Any]:
    # one colour for each kind, from a continuous map where the palette has too few
    names = list(dict.fromkeys(map(str, kinds)))
    if len(names) <= len(COLORS):
        return dict(zip(names, COLORS))
    return {name: colormaps["turbo"]((place + 0.5) / len(names)) for place, name in enumerate(names)}


def _apart(x: FloatArray, y: FloatArray, least: float = 0.045) -> list[int]:
    # points far enough from the last one labelled, as a share of the axes, so that labels do not overlap
    wide, high = np.ptp(x) or 1.0, np.ptp(y) or 1.0
    chosen = [0]
    for k in range(1, len(x)):
        if np.hypot((x[k] - x[chosen[-1]]) / wide, (y[k] - y[chosen[-1]]) / high) > least:
            chosen.append(k)
    return chosen
