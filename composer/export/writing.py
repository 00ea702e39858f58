"""model.export: write, compare, and only then let the files out."""

from __future__ import annotations

from pathlib import Path

from composer.codegen.program import is_global, walk
from composer.errors import AlgebraError
from composer.export import folder as folders
from composer.export.check import demand, worst
from composer.export.folder import Export
from composer.export.structures import random_structures
from composer.export.targets import TARGETS, find_target
from composer.model import Model
from composer.modelfile import save, versions


def export(model: Model, folder: str | Path, target: str = "lammps", seed: int = 0) -> Export:
    """Write a model for another program, compared with the model on random structures before any file is there.

    Arguments: model; folder to write (an earlier export in it is replaced); target, one of `composer.export.targets.TARGETS`; seed of the structures.
    Returns: an Export, printable: files, largest differences from the model, and what to type in the other program.
    Errors: DataError for an unknown target or a folder that cannot be written; AlgebraError when the target cannot express the model;
    BackendError when a tool is missing or the comparison fails. After an error the folder is as it was.
    """
    wanted = find_target(target)
    _neighbors_suffice(model, target, wanted.whole)
    folder = Path(folder)
    with folders.writing(folder) as workplace:
        usage = wanted.write(model, workplace, str(folder))
        found = worst(wanted.check_engine(workplace, model), model, random_structures(model.species, seed, wanted.periodic))
        demand(found, wanted.bar, target)
        save(model, workplace / folders.MODEL)
        about = {
            "species": list(model.species),
            "cutoff": model.cutoff,
            "expression": model.expression.data(),
            "checks": found,
            "bar": wanted.bar,
            "versions": versions(),
            "usage": usage,
        }
        folders.write_manifest(workplace, target, about)
        files = tuple(sorted(f.name for f in workplace.iterdir()))
    return Export(folder, target, files, found, usage)


def _neighbors_suffice(model: Model, target: str, whole: bool) -> None:
    """Refuse a model with sums over all atoms where the other program knows neighbours alone."""
    found = sorted({str(n.data[0]) for n in walk([model.node]) if is_global(n)})
    if found and not whole:
        able = ", ".join(name for name, t in TARGETS.items() if t.whole)
        raise AlgebraError(
            f"An export of {model.expression} to {target} was asked for",
            f"It sums over all atoms and images ({', '.join(found)}), which this target cannot",
            f"Export to one of {able}, or give fixed charges to the other program by hand and export the rest",
        )
