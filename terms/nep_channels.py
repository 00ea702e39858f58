"""Sizes, checks and start values of the neuroevolution potential."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from composer.errors import AlgebraError

COUPLED = ((2, 2, 2), (), (1, 1, 2), (1, 2, 3), (2, 3, 3), (1, 3, 4))  # degrees of the invariants of l_max[1:]; () is q_1111


class Channels:
    """Sizes, checks and start values; the fields are those of the term."""

    cutoff: tuple[float, float]
    n_max: tuple[int, int]
    basis: tuple[int, int]
    l_max: tuple[int, ...]
    neurons: int
    version: int
    elements: tuple[tuple[str, float, float], ...]
    extra: Any

    def check(self) -> None:
        pairs = (self.cutoff, self.n_max, self.basis)
        if not all(isinstance(p, tuple) and len(p) == 2 for p in pairs) or not all(
            isinstance(x, int) and x >= 0 for x in (*self.n_max, *self.basis)
        ):
            found = f"cutoff = {self.cutoff}, n_max = {self.n_max}, basis = {self.basis}"
            raise AlgebraError("NEP was asked for", found, "Give pairs (radial, angular), e.g. cutoff=(8, 4), n_max=(4, 4), basis=(8, 8)")
        object.__setattr__(self, "cutoff", tuple(map(float, self.cutoff)))
        if self.cutoff[1] > self.cutoff[0]:
            raise AlgebraError(f"NEP with cutoff = {self.cutoff} was asked for", "The angular one is longer", f"Write {self.cutoff[::-1]}")
        degrees, *flags = self.l_max
        most = max((l for flag, legs in zip(flags, COUPLED) if flag for l in legs), default=1 if any(flags) else 0)
        if len(flags) > len(COUPLED) or degrees < most or degrees > 8:
            found = f"It is a degree up to 8 and at most {len(COUPLED)} flags for 222, 1111, 112, 123, 233, 134, no degree above the first"
            raise AlgebraError(f"NEP with l_max = {self.l_max} was asked for", found, "Give e.g. l_max=(4, 2, 0)")
        if self.version not in (3, 4, 5) or self.neurons < 1:
            found = f"version = {self.version}, neurons = {self.neurons}"
            raise AlgebraError("NEP was asked for", found, "Give version 3, 4 or 5 and at least one neuron")
        known = self.elements if isinstance(self.elements, tuple) else ((),)
        if not all(isinstance(e, tuple) and len(e) == 3 and isinstance(e[0], str) and 0 < e[2] <= e[1] for e in known):
            advice = 'Give symbols with a radial and a shorter angular cutoff (Å): (("Te", 8.0, 4.0),)'
            raise AlgebraError("NEP was asked for", f"elements = {self.elements}", advice)
        flags = [2 if f and not n else int(bool(f)) for n, f in enumerate(flags)]  # 1 and 2 mean the same
        while len(flags) > 2 and not flags[-1]:
            flags.pop()
        object.__setattr__(self, "l_max", (degrees, *flags, *[0] * (2 - len(flags))))
        object.__setattr__(self, "elements", tuple(sorted((s, float(a), float(b)) for s, a, b in self.elements)))

    @property
    def radials(self) -> int:
        """Number of radial descriptors."""
        return self.n_max[0] + 1

    @property
    def angulars(self) -> int:
        """Number of angular channels n."""
        return self.n_max[1] + 1

    @property
    def radial_functions(self) -> int:
        """Number of Chebyshev functions of the radial part."""
        return self.basis[0] + 1

    @property
    def angular_functions(self) -> int:
        """Number of Chebyshev functions of the angular part."""
        return self.basis[1] + 1

    @property
    def blocks(self) -> int:
        """Angular descriptors for each channel."""
        return self.l_max[0] + sum(bool(f) for f in self.l_max[1:])

    @property
    def extras(self) -> int:
        """Number of features of each species that come from far."""
        return self.extra.size

    def far(self, env: Any) -> list[tuple[int, int, Any]]:
        """Features from far, with their species and place."""
        return self.extra.features(env)

    @property
    def size(self) -> int:
        """Number of descriptors."""
        return self.radials + self.blocks * self.angulars

    def lengths(self, symbols: Sequence[str], part: int) -> list[float]:
        """Cutoffs of the species (Å) for the radial (0) or angular (1) part."""
        known = {e[0]: float(e[1 + part]) for e in self.elements}
        return [known.get(s, self.cutoff[part]) for s in symbols]

    def _random(self, name: str, *shape: int) -> Any:
        import numpy as np

        return np.random.default_rng(sum(name.encode())).normal(size=shape)

    def start_radial(self) -> Any:
        """c of the radial part, [radials, radial_functions]."""
        return self._random("radial", self.radials, self.radial_functions) / math.sqrt(self.radial_functions)

    def start_angular(self) -> Any:
        """c of the angular part, [angulars, angular_functions]."""
        return self._random("angular", self.angulars, self.angular_functions) / math.sqrt(self.angular_functions)

    def start_radial_weights(self) -> Any:
        """[radials, neurons], variance 2/(size + neurons)."""
        return self._random("weights", self.radials, self.neurons) * math.sqrt(2 / (self.size + self.neurons))

    def start_angular_weights(self) -> Any:
        """[blocks, angulars, neurons], variance 2/(size + neurons)."""
        return self._random("more weights", self.blocks, self.angulars, self.neurons) * math.sqrt(2 / (self.size + self.neurons))

    def start_extra_weights(self) -> Any:
        """[extras, neurons], variance 2/(size + neurons)."""
        return self._random("extra weights", self.extras, self.neurons) * math.sqrt(2 / (self.size + self.neurons))

    def start_bias(self) -> Any:
        """[neurons]"""
        return 0.5 * self._random("bias", self.neurons)

    def start_output(self) -> Any:
        """[neurons], variance 2/(neurons + 1)."""
        return self._random("output", self.neurons) * math.sqrt(2 / (self.neurons + 1))
