"""A set of frames: what fits, searches and reports are made from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from composer.data.frame import Frame
from composer.data.groups import groups
from composer.data.split import Unit, choose, deal, units
from composer.errors import DataError

if TYPE_CHECKING:
    from composer.data.inspection import Inspection

By = Literal["group", "config_type", "frame"]


class Data(Sequence[Frame]):
    """An immutable sequence of frames.

    Arguments: frames, species (symbols in the order a model will have them; by default those found, by atomic number).
    Slices, masks and arrays of places give a Data with the same species. Errors: DataError for a species that is not in the list.
    """

    def __init__(self, frames: Iterable[Frame], species: Sequence[str] | None = None) -> None:
        self._frames = _checked(frames)
        self._species = tuple(species) if species is not None else _by_number(self._frames)
        for frame in self._frames:
            if foreign := set(frame.symbols) - set(self._species):
                raise DataError(
                    f"Data of the species {', '.join(self._species)} were asked for",
                    f"{', '.join(sorted(foreign))} was found in {frame.name}",
                    "Add it to species=[...], or remove the frame",
                )

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames."""
        return self._frames

    @property
    def species(self) -> list[str]:
        """Symbols that occur, by atomic number, or those that were asked for."""
        return list(self._species)

    @property
    def config_types(self) -> dict[str, int]:
        """Number of frames of each config_type, in the order of first appearance."""
        return dict(Counter(frame.config_type for frame in self._frames))

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    @overload
    def __getitem__(self, key: int) -> Frame: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | np.ndarray) -> Data: ...
    def __getitem__(self, key: Any) -> Frame | Data:
        if isinstance(key, (int, np.integer)):
            return self._frames[key]
        return Data((self._frames[place] for place in np.arange(len(self))[key]), self._species)

    def __repr__(self) -> str:
        atoms = sum(map(len, self._frames))
        return f"Data: {len(self)} frames, {atoms} atoms, {' '.join(self._species)}, {len(self.config_types)} kinds"

    @cached_property
    def hash(self) -> str:
        """Sha256 of the content in its order: species, frames, and the groups that the frames state."""
        stated = [f"{frame.hash} {frame.info.get('group', '')} {frame.info.get('trajectory', '')}" for frame in self._frames]
        return hashlib.sha256("\n".join((" ".join(self._species), *stated)).encode()).hexdigest()

    @cached_property
    def groups(self) -> np.ndarray:
        """Label of the configuration of every frame [frames]; see `composer.data.groups.groups`."""
        labels = groups(self._frames)
        labels.setflags(write=False)
        return labels

    def split(self, test: float = 0.2, by: By = "group", seed: int = 0) -> tuple[Data, Data]:
        """Divide into a train and a test set, whole groups together, every config_type in its share.

        Arguments: test (share of the frames), by ("group": same configurations stay together; "config_type": whole kinds; "frame"),
        seed. Returns: (train, test), a function of content and seed alone. Errors: DataError for a share outside (0, 1).
        """
        if not isinstance(test, Real) or not 0.0 < test < 1.0:
            raise DataError(f"A test share of {test!r} was asked for", "It must lie between 0 and 1", "Write split(test=0.2)")
        chosen = choose(self._units(by, seed), test)
        if not chosen:
            raise DataError(
                f"A test set of {test:.0%} was asked for, by {by}",
                f"{len(self)} frames in {len(self._units(by, seed))} groups leave nothing to choose",
                "Ask for a larger share, use by='frame', or read more data",
            )
        return self[np.setdiff1d(np.arange(len(self)), chosen)], self[chosen]

    def folds(self, k: int = 5, by: By = "group", seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """Divide into k folds for cross-validation, whole groups together, every config_type spread over all.

        Arguments: k, by (as in `split`), seed. Returns: k pairs of places (train, test), a function of content and seed alone.
        Errors: DataError for fewer than k groups.
        """
        return deal(self._units(by, seed), k)

    def fold_of(self, k: int = 5, by: By = "group", seed: int = 0) -> np.ndarray:
        """The fold of every frame [frames]: at most k, fewer where there are fewer groups, and zero for all where nothing can be held out."""
        units = self._units(by, seed)
        found = np.zeros(len(self), dtype=int)
        for number, (_, test) in enumerate(deal(units, min(k, len(units))) if min(k, len(units)) > 1 else []):
            found[test] = number
        return found

    def inspect(self) -> Inspection:
        """Look at distances, duplicates, outliers, groups, energy-volume curves and missing observables."""
        from composer.data.inspection import inspect

        return inspect(self._frames, self.groups)

    def atoms(self) -> list[Any]:
        """Return the frames as a list of `ase.Atoms` with the observables attached."""
        return [frame.atoms() for frame in self._frames]

    def _units(self, by: By, seed: int) -> list[Unit]:
        labels: dict[str, Sequence[object]] = {
            "group": [] if by != "group" else self.groups.tolist(),
            "config_type": [frame.config_type for frame in self._frames],
            "frame": range(len(self)),
        }
        if by not in labels:
            raise DataError(f"A division by {by!r} was asked for", "It is not known", f"Use one of {', '.join(labels)}")
        return units(self._frames, labels[by], by != "config_type", seed)


def _checked(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    found: tuple[Any, ...] = tuple(frames) if isinstance(frames, Iterable) and not isinstance(frames, str) else (frames,)
    strange = next((type(frame).__name__ for frame in found if not isinstance(frame, Frame)), None)
    if strange is not None:
        raise DataError(
            "Data were asked for", f"A {strange} was given where frames should be", "Write composer.read_data(path or list of ase.Atoms)"
        )
    return found


def _by_number(frames: Iterable[Frame]) -> tuple[str, ...]:
    from ase.data import atomic_numbers

    return tuple(sorted({symbol for frame in frames for symbol in frame.symbols}, key=atomic_numbers.__getitem__))
