"""model.export: write, compare, and only then let the files out."""

from __future__ import annotations

from pathlib import Path

from composer.errors import AlgebraError
from composer.export import folder as folders
from composer.export.check import demand, worst
from composer.export.folder import Export
from composer.export.kspace import sums
from composer.export.structures import random_structures
from composer.export.targets import TARGETS, find_target
from composer.model import Model
from composer.modelfile import save, versions


def export(model: Model, path: str | Path, target: str | None = None, seed: int = 0) -> Export:
    """Write a model for another program, compared with the model on random structures before any file is there.

    Arguments: model; path, the folder to write (an earlier export in it is replaced), or a file nep.txt, which is then all that is written;
    target, one of `composer.export.targets.TARGETS`, by default gpumd for a file *.txt and else lammps; seed of the structures.
    Returns: an Export, printable: files, largest differences from the model, and what to type in the other program.
    Errors: DataError for an unknown target or a path that cannot be written; AlgebraError when the target cannot express the model;
    BackendError when a tool is missing or the comparison fails. After an error the folder is as it was.
    """
    folder, alone = Path(path), Path(path).suffix == ".txt"
    target = target or ("gpumd" if alone else "lammps")
    if alone and target == "gpumd":
        return _file(model, folder, target, seed)
    wanted = find_target(target)
    _neighbors_suffice(model, target, wanted.whole)
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


def _file(model: Model, path: Path, target: str, seed: int) -> Export:
    """Write the one file of a target under its own name, compared before it is there."""
    wanted = find_target(target)
    _neighbors_suffice(model, target, wanted.whole)
    with folders.writing_file(path) as place:
        usage = wanted.write(model, place, str(path))
        found = worst(wanted.check_engine(place, model), model, random_structures(model.species, seed, wanted.periodic))
        demand(found, wanted.bar, target)
    return Export(path, target, (path.name,), found, usage)


def _neighbors_suffice(model: Model, target: str, whole: bool) -> None:
    """Refuse a model with sums over all atoms where the other program knows neighbours alone."""
    found = sorted({str(n.data[0]) for n in sums(model.node)})
    if found and not whole:
        able = ", ".join(name for name, t in TARGETS.items() if t.whole)
        raise AlgebraError(
            f"An export of {model.expression} to {target} was asked for",
            f"It sums over all atoms and images ({', '.join(found)}), which this target cannot",
            f"Export to one of {able}",
        )
