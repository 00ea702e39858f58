"""The picture of a set of data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from composer.data.inspection import Inspection


def draw(inspection: Inspection) -> Figure:
    """Draw distances by pair, energy and stress against volume, and largest force against energy. Returns: a matplotlib Figure."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    (distances, energy), (stress, force) = figure.subplots(2, 2)
    kinds = sorted({frame.config_type for frame in inspection.frames})
    map_ = colormaps["turbo"].resampled(max(len(kinds), 2))
    colors = {kind: map_(place) for place, kind in enumerate(kinds)}
    _draw_distances(distances, inspection)
    for kind, (volume, per_atom, normal) in inspection.curves.items():
        energy.plot(volume, per_atom, ".", color=colors[kind], ms=5)
        stress.plot(volume, normal, ".", color=colors[kind], ms=5)
    _draw_forces(force, inspection, colors)
    energy.set(title="energy", xlabel="volume (Å$^3$/atom)", ylabel="energy (eV/atom)")
    stress.set(title="mean normal stress (positive: tension)", xlabel="volume (Å$^3$/atom)", ylabel="stress (eV/Å$^3$)")
    stress.axhline(0.0, color="0.7", lw=0.8, zorder=0)
    handles = [force.plot([], [], "o", ms=5, color=colors[kind], label=kind)[0] for kind in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    return figure


def _draw_distances(axes: Any, inspection: Inspection) -> None:
    middle = 0.5 * (inspection.edges[1:] + inspection.edges[:-1])
    for (a, b), count in inspection.distances.items():
        density = count / middle**2  # an ideal gas is flat
        axes.step(middle, density / max(density.max(), 1e-300), where="mid", lw=1.2, label=f"{a}-{b}")
    for distance, _ in inspection.shortest.values():
        axes.axvline(distance, color="0.6", lw=0.6, ls=":")
    axes.set(title="distances (dotted: shortest)", xlabel="r (Å)", ylabel="pairs / r$^2$, largest = 1", ylim=(0, 1.05))
    axes.legend(fontsize=8, frameon=False, ncols=2)


def _draw_forces(axes: Any, inspection: Inspection, colors: dict[str, Any]) -> None:
    from composer.data.inspection import cohesion, largest_force

    energies = cohesion(inspection.frames)
    forces = np.array([largest_force(frame) for frame in inspection.frames])
    axes.scatter(energies, forces, s=12, c=[colors[frame.config_type] for frame in inspection.frames])
    marked = {id(frame) for frame, _ in inspection.energy_outliers + inspection.force_outliers}
    ring = np.array([id(frame) in marked for frame in inspection.frames])
    axes.scatter(energies[ring], forces[ring], s=70, facecolors="none", edgecolors="k", linewidths=0.8, label="outliers")
    axes.set(title="largest force in a frame", xlabel="energy (eV/atom)", ylabel="force (eV/Å)", yscale="log")
    if ring.any():
        axes.legend(fontsize=8, frameon=False)
