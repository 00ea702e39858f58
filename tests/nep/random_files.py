"""Files of random numbers in every form that the format knows."""

from __future__ import annotations

import numpy as np

from composer.export.nepfile import NepFile, Network, flexible, size


def random_file(
    version: int = 4,
    kind: str = "",
    species: tuple[str, ...] = ("Al", "Cu"),
    cutoffs: tuple[tuple[float, float], ...] = ((5.0, 4.0),),
    l_max: tuple[int, ...] = (4, 2, 1),
    zbl: tuple[float, ...] = (),
    neurons: int = 5,
    seed: int = 0,
) -> NepFile:
    """A file with n_max 2 1 and basis_size 3 2; numbers with eight digits, as files hold them."""
    draw = np.random.default_rng(seed)
    s, n_max, basis = len(species), (2, 1), (3, 2)
    dim, heads = size(n_max, l_max), 2 if kind.startswith("charge") else 1
    networks = 1 if version == 3 else s

    def numbers(*shape: int) -> np.ndarray:
        return np.array([float(f"{x:.7e}") for x in draw.normal(0, 0.5, int(np.prod(shape)))]).reshape(shape)

    def network() -> Network:
        constant = numbers(networks) if version == 5 else np.zeros(networks)
        return Network(
            numbers(networks, neurons, dim), numbers(networks, neurons), numbers(networks, heads, neurons), constant, numbers(1)[0]
        )

    found = NepFile(
        version, kind, species, list(cutoffs), (200, 100), n_max, basis, l_max, neurons, network(),
        numbers(n_max[0] + 1, basis[0] + 1, s, s), numbers(n_max[1] + 1, basis[1] + 1, s, s), abs(numbers(dim)) + 0.1, zbl,
        second=network() if kind == "polarizability" else None, dielectric=1.5 if heads == 2 else None,
    )  # fmt: skip
    found.scaler = np.array([float(f"{x:.7e}") for x in found.scaler])
    if flexible(found):
        weights = [0.18, 3.2, 0.51, 0.94, 0.28, 0.40, 0.028, 0.20]
        rows = [[0.7, 1.6 + 0.1 * p, 0.18 * (1 + 0.2 * p), *weights[1:]] for p in range(s * (s + 1) // 2)]
        found.zbl_pairs = np.array([[float(f"{x:.7e}") for x in row] for row in rows])
    return found
