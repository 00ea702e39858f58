"""Writing of models that a nep.txt file holds beside plain energies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor

from composer.errors import AlgebraError
from composer.export.check import demand, relative
from composer.export.folder import Export, writing_file
from composer.export.nepfile import NepFile, parse, said, text
from composer.export.structures import random_structures
from composer.export.targets import TARGETS

USAGE = {
    "charge": "GPUMD, in run.in: potential {0}",
    "dipole": "GPUMD, in run.in, after the potential that moves the atoms: potential {0}, and dump_dipole 100",
    "polarizability": "GPUMD, in run.in, after the potential that moves the atoms: potential {0}, and dump_polarizability 100",
}


class NepModel(ABC):
    """A model of charges, dipole moments or polarizabilities."""

    periodic: ClassVar[bool] = False  # whether structures must be

    @classmethod
    @abstractmethod
    def of(cls, f: NepFile) -> Self:
        """The model of a file."""

    @abstractmethod
    def contents(self) -> NepFile:
        """What its file says."""

    @abstractmethod
    def values(self, structure: Any) -> dict[str, Tensor]:
        """What is compared when it is written."""

    def __str__(self) -> str:
        return said(self.contents())

    def export(self, path: str | Path, target: str | None = None, seed: int = 0) -> Export:
        """Write a nep.txt file, read again and compared with the model on random structures before it is there.

        Arguments: path, of a file; target, which must be gpumd; seed of the structures. Returns: an Export, printable. Errors: AlgebraError
        for another target; DataError for a path that cannot be written; BackendError when the comparison fails.
        """
        path, found = Path(path), self.contents()
        if target not in (None, "gpumd") or path.is_dir():
            raise AlgebraError(
                f"An export of a {found.tag} model to {path if target in (None, 'gpumd') else target} was asked for",
                "Charges, dipole moments and polarizabilities of this kind go to a file nep.txt alone",
                'Write export("nep.txt")',
            )
        with writing_file(path) as place:
            (place / path.name).write_text(text(found))
            again, checks = self.of(parse(place / path.name)), dict[str, float]()
            for structure in random_structures(found.species, seed, self.periodic):
                theirs, ours = again.values(structure), self.values(structure)
                for name, value in ours.items():
                    checks[name] = float(np.maximum(checks.get(name, 0.0), relative(theirs[name].numpy(), value.numpy())))  # NaN stays
            demand(checks, TARGETS["gpumd"].bar, f"{path}")
        usage = USAGE[found.kind.rstrip("123")].format(path)
        return Export(path, "gpumd", (path.name,), checks, f"{said(found)}\n{usage}")
