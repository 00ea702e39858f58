"""potential.c: compiled by several compilers and under sanitizers, compared with the reference in torch."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from composer.codegen.reference import evaluate
from composer.export.c_source import c_header, c_source
from composer.export.check import differences, model_values
from composer.export.library import Library, Values
from composer.export.structures import random_structures
from composer.model import Model
from composer.model.structures import whole
from composer.neighbors import all_positions
from terms import Pair
from tests.catalogue import CATALOGUE

STRICT = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
NAMES = ["StillingerWeber, two species", "stages"]
ModelOf = Callable[[str], Model]


def written(model: Model, folder: Path) -> Path:
    (folder / "potential.c").write_text(c_source(model))
    (folder / "potential.h").write_text(c_header(model, {}))
    return folder / "potential.c"


def command(compiler: str) -> list[str]:
    """The compiler of the system, or the clang that comes as a Python package (whose default is to stop at undefined behaviour)."""
    if shutil.which(compiler):
        return [compiler]
    pytest.importorskip("ziglang")
    return [sys.executable, "-m", "ziglang", "cc", "-fno-sanitize=undefined"]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("name", NAMES)
def test_13_compiles_without_a_word_and_equals_eager_torch(
    name: str, compiler: str, model_of: Callable[[str], Model], tmp_path: Path
) -> None:
    model = model_of(name)
    source = written(model, tmp_path)
    subprocess.run([*command(compiler), *STRICT, "-shared", "-fPIC", source, "-o", tmp_path / "potential.so", "-lm"], check=True)
    library = Library(tmp_path / "potential.so", model)
    assert library.species == model.species
    for structure in random_structures(model.species, seed=3):
        eager = reference(model, structure)
        assert max(differences(library(structure), eager).values()) < 1e-12
        assert np.abs(eager.forces).max() > 1e-3


def reference(model: Model, structure) -> Values:
    """The oracle: the energy program in torch, differentiated by autograd."""
    tables = {key: model.flat[s.offset : s.offset + s.size].reshape(s.rows, *s.shape) for key, s in model.layout.slots.items()}
    found = evaluate(model.node, model.prepare(structure), len(model.species), tables)
    return Values(float(found.energies.sum()), found.forces.numpy(), found.virial[0].numpy(), found.energies.numpy())


MAIN = """
#include "potential.h"
#include <stdio.h>
int main(void) {
  static double energies[ATOMS], forces[3 * ATOMS], virial[9];
  double e;
  if (potential_compute(ATOMS, SITES, x, species, owner, first, index_, &e, energies, forces, virial)) return 1;
  printf("%.17g", e);
  for (int i = 0; i < 3 * ATOMS; ++i) printf(" %.17g", forces[i]);
  return 0;
}
"""


@pytest.mark.parametrize("name", NAMES)
def test_addresses_and_undefined_behaviour(name: str, model_of: Callable[[str], Model], tmp_path: Path) -> None:
    model = model_of(name)
    structure = random_structures(model.species, seed=4)[1]
    written(model, tmp_path)
    (tmp_path / "main.c").write_text(_arrays(model, structure) + MAIN)
    flags = ["-std=c11", "-O0", "-march=native", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["gcc", *flags, "main.c", "potential.c", "-o", "program", "-lm"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    numbers = np.array(said.stdout.split(), dtype=float)
    ours = model_values(model, structure)
    assert numbers[0] == pytest.approx(ours.energy, rel=1e-12)
    np.testing.assert_allclose(numbers[1:].reshape(-1, 3), ours.forces, rtol=0, atol=1e-12 * np.abs(ours.forces).max())


def _arrays(model: Model, structure) -> str:
    """The structure as C arrays."""
    batch = whole(model.prepare(structure))
    owner = batch.ghost_owner.tolist()
    species = batch.species.tolist()
    columns = {
        "double x": all_positions(batch).flatten().tolist(),
        "int32_t species": species + [species[o] for o in owner],
        "int32_t owner": owner,
        "int64_t first": batch.first.tolist(),
        "int32_t index_": batch.index.tolist(),
    }
    text = "\n".join(f"static const {name}[] = {{{', '.join(map(repr, values))}}};" for name, values in columns.items())
    return f"#include <stdint.h>\n#define ATOMS {batch.atoms}\n#define SITES {batch.sites}\n{text}\n"


def test_export_writes_its_differences_into_the_header(model_of: Callable[[str], Model], tmp_path: Path) -> None:
    made = model_of("StillingerWeber").export(tmp_path / "sw", target="c")
    assert {"potential.c", "potential.h", "model.composer", "export.json"} == set(made.files)
    assert max(made.checks.values()) < 1e-12
    assert "Checked against the model, forces" in (tmp_path / "sw" / "potential.h").read_text()
    assert "forces" in str(made)


def test_names_of_users_cannot_leave_the_comment(tmp_path: Path) -> None:
    model = Model(Pair(cutoff=4.0, n_max=2).named("*/ int evil(void); /* \\\n@count@"), ["Si"])
    source = written(model, tmp_path)
    assert "*/ int" not in (tmp_path / "potential.h").read_text()
    subprocess.run(["gcc", *STRICT, "-c", source, "-o", tmp_path / "potential.o"], check=True)
    held = subprocess.run(["nm", tmp_path / "potential.o"], capture_output=True, text=True, check=True).stdout
    assert "evil" not in held and "potential_compute" in held


def test_energy_of_an_atom_alone(model_of: Callable[[str], Model], tmp_path: Path) -> None:
    model = model_of("StillingerWeber").with_parameters({"E0": [-2.5]})
    source = written(model, tmp_path)
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", source, "-o", tmp_path / "potential.so", "-lm"], check=True)
    loaded = Library(tmp_path / "potential.so", model).loaded
    loaded.potential_alone.restype = ctypes.c_double
    assert loaded.potential_alone(0) == -2.5


def test_everything_the_generator_writes_is_c(model_of: ModelOf, tmp_path: Path) -> None:
    """One look of a compiler at the source of every expression of the catalogue."""
    for place, name in enumerate(CATALOGUE):
        written(model_of(name), tmp_path).rename(tmp_path / f"{place}.c")
    files = [tmp_path / f"{place}.c" for place in range(len(CATALOGUE))]
    subprocess.run(["gcc", *STRICT, "-fsyntax-only", *files], check=True)
