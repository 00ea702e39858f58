"""Distances between atoms and periodic images, for checking and comparing structures (kernels have their own lists)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

if TYPE_CHECKING:
    from composer.data.frame import Frame


def images(frame: Frame, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List the atoms of a structure and their images within a distance of the cell.

    Equation: x + n·cell, kept where every fractional coordinate lies in [-c/h, 1 + c/h] with h the height of the cell.
    Arguments: frame, cutoff c (Å). Returns: wrapped positions of the atoms (Å) [n,3], points (Å) [m,3], owner of each point [m].
    """
    cell = complete(frame.cell, frame.pbc)  # [3,3], rows are vectors
    inverse = np.linalg.inv(cell)
    fractional = frame.positions @ inverse
    fractional[:, frame.pbc] %= 1.0
    reach = np.where(frame.pbc, cutoff * np.linalg.norm(inverse, axis=0), 0.0)  # cutoff in units of the heights, [3]
    points, owners = [], []
    for shift in itertools.product(*(range(-int(np.ceil(r)), int(np.ceil(r)) + 1) for r in reach)):
        moved = fractional + shift
        near = np.all(~frame.pbc | ((moved >= -reach) & (moved <= 1.0 + reach)), axis=1)
        points.append(moved[near])
        owners.append(np.flatnonzero(near))
    return fractional @ cell, np.concatenate(points) @ cell, np.concatenate(owners)


def complete(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Replace the vectors of non-periodic directions by unit vectors orthogonal to the periodic ones.

    Arguments: cell (Å) [3,3], pbc [3]. Returns: an invertible cell (Å) [3,3].
    """
    full = np.where(pbc[:, None], cell, 0.0)
    free = np.flatnonzero(~pbc)
    if free.size:
        full[free] = np.linalg.svd(full)[2][3 - free.size :]  # right singular vectors of the zero singular values
    return full


def nearest(frame: Frame, centre: str, neighbor: str, count: int, cutoff: float) -> np.ndarray:
    """Find the distances from every atom of one species to its nearest neighbours of another, images included.

    Arguments: frame, centre and neighbor (symbols), count k, cutoff (Å).
    Returns: sorted distances (Å) [atoms of centre, k]; where there are fewer neighbours, the cutoff.
    """
    symbols = np.array(frame.symbols)
    home, points, owner = images(frame, cutoff)
    own = int(centre == neighbor)  # the nearest point of an atom's own species is the atom itself
    tree = KDTree(points[symbols[owner] == neighbor])
    found = tree.query(home[symbols == centre], k=count + 1, distance_upper_bound=cutoff)[0]  # [atoms, k+1]; inf where there is none
    return np.minimum(found[:, own : count + own], cutoff)


def pairs(frame: Frame, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List all ordered pairs of atoms closer than a distance, images included.

    Arguments: frame, cutoff (Å). Returns: first atom [pairs], second atom [pairs], distance (Å) [pairs].
    """
    home, points, owner = images(frame, cutoff)
    found = KDTree(home).sparse_distance_matrix(KDTree(points), cutoff, output_type="ndarray")
    first, second, distance = found["i"], owner[found["j"]], found["v"]
    itself = (first == second) & (distance < 1e-9)
    return first[~itself], second[~itself], distance[~itself]
