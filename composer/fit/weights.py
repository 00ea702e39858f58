"""Weights of a fit, stated as the errors that one aims for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from composer.data import Frame
from composer.errors import DataError

Array = NDArray[np.float64]


class Squares(NamedTuple):
    """What the squares of a frame count in a loss: of E/N, of each force component (a number, or [n, 3]) and of each component of W/N."""

    energy: float
    forces: Array | float
    virial: float


@dataclass(frozen=True)
class Weights:
    """Model-error targets: every residual is divided by the error that is aimed for.

    energy s_E (eV/atom); forces s_0 (eV/Å) with s^2 = s_0^2 + (a |F|)^2, F the reference force of the atom and a = `relative`; stress
    s_S of V sigma / N (eV/atom). None leaves an observable out. `by_config_type` gives other targets for a kind of frame: a dict such
    as {"liquid": {"energy": 0.01}}, or a number that divides all of its targets. `per_frame` names an info key whose number divides
    the targets of its frame. Errors: DataError for a target that is not above zero.
    """

    energy: float | None = 0.003
    forces: float | None = 0.1
    stress: float | None = 0.03
    relative: float = 0.0
    by_config_type: Mapping[str, Mapping[str, float] | float] = field(default_factory=dict)
    per_frame: str | None = None

    def __post_init__(self) -> None:
        targets = [self.energy, self.forces, self.stress]
        for kind in self.by_config_type.values():
            if isinstance(kind, Mapping) and (unknown := set(kind) - {"energy", "forces", "stress", "relative"}):
                raise DataError(f"Targets {sorted(unknown)} were given", "Known are energy, forces, stress and relative", "Use these names")
            targets += [v for k, v in kind.items() if k != "relative"] if isinstance(kind, Mapping) else [kind]
        wrong = [t for t in targets if t is not None and not (isinstance(t, Real) and 0 < t < np.inf)]
        if wrong or not (isinstance(self.relative, Real) and self.relative >= 0) or not any(targets[:3]):
            stated = ", ".join(
                f"{f.name}={v!r}" for f in fields(self) if (v := getattr(self, f.name)) or f.name in ("energy", "forces", "stress")
            )
            raise DataError(
                f"Weights({stated}) were asked for",
                "Targets are errors above zero (relative: zero or more), and one of them at least is given",
                "Write for example Weights(energy=0.003, forces=0.1, stress=0.03)",
            )

    @property
    def scales(self) -> dict[str, float]:
        """The plain target of each observable that takes part."""
        return {o: float(s) for o in ("energy", "forces", "stress") if (s := getattr(self, o)) is not None}

    def shape(self, observable: str, frame: Frame) -> Array | float:
        """Target of a frame's numbers over the plain target: a number, or one for each force component [3 n]."""
        kind = self.by_config_type.get(frame.config_type, {})
        own: dict[str, Any] = dict(kind) if isinstance(kind, Mapping) else {}
        plain = self.scales[observable]
        target, relative = float(own.get(observable, plain)), float(own.get("relative", self.relative))
        size: Array | float = target / plain
        if observable == "forces" and relative and frame.forces is not None:
            norms = np.linalg.norm(frame.forces, axis=1, keepdims=True)  # [n, 1]
            size = np.broadcast_to(np.sqrt(target**2 + (relative * norms) ** 2) / plain, frame.forces.shape).ravel()
        if not isinstance(kind, Mapping):
            size = size / float(kind)
        return size / self._importance(frame) if self.per_frame else size

    def squares(self, frame: Frame) -> Squares:
        """One over the squares of the targets of a frame; zero for an observable that takes no part."""
        found = {o: (scale * self.shape(o, frame)) ** -2.0 for o, scale in self.scales.items()}
        forces = found.get("forces", 0.0)
        return Squares(
            float(found.get("energy", 0.0)), np.reshape(forces, (-1, 3)) if np.ndim(forces) else forces, float(found.get("stress", 0.0))
        )

    def _importance(self, frame: Frame) -> float:
        try:
            value = float(frame.info.get(str(self.per_frame), 1.0))
        except (TypeError, ValueError):
            value = np.nan
        if not 0 < value < np.inf:
            raise DataError(
                f"The weight of {frame.name} was to be read from its info",
                f"{self.per_frame} = {frame.info.get(str(self.per_frame))!r} is no number above zero",
                "Mend the frame, or leave per_frame out",
            )
        return value

    def __str__(self) -> str:
        units = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/atom of V sigma/N"}
        text = ", ".join(f"{o} {s:.3g} {units[o]}" for o, s in self.scales.items())
        more = [f"{f.name} {getattr(self, f.name)}" for f in fields(self)[3:] if getattr(self, f.name)]
        return ", ".join([text, *more])
