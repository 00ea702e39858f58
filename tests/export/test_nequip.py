"""The layout that pair_nequip_allegro of LAMMPS reads, number 10 of theory/interfaces.md, section 12."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch

from composer.export.check import reads_neighbours, worst
from composer.export.nequip import INPUTS, PACKAGE, Edges, edges, engine_of, metadata, traced
from composer.export.pt2 import EXPORTED
from composer.export.structures import random_structures
from composer.model import Model

ModelOf = Callable[[str], Model]
LOCAL, FIELDS = ["pos", "edge_index", "atom_types"], ["cell", "edge_cell_shift"]  # as the pair style passes them unless told otherwise


@pytest.mark.parametrize("name", ["StillingerWeber, two species", "stages"])
def test_10_inputs_outputs_and_numbers(name: str, model_of: ModelOf) -> None:
    """Order, shapes and types of both styles; the exported program takes other sizes and says what the model says."""
    model = model_of(name)
    program, (structure, *others) = traced(model).module(), random_structures(model.species, seed=21)
    names = LOCAL + (FIELDS if reads_neighbours(model) else [])
    assert reads_neighbours(model) == (name == "stages")
    assert list(inspect.signature(Edges.forward).parameters)[1:] == list(INPUTS) == LOCAL + FIELDS
    given = dict(zip(names, edges(model, structure), strict=True))
    n, e = given["pos"].shape[0], given["edge_index"].shape[1]
    shapes = {"pos": (n, 3), "edge_index": (2, e), "atom_types": (n,), "cell": (1, 3, 3), "edge_cell_shift": (e, 3)}
    assert {k: tuple(v.shape) for k, v in given.items()} == {k: shapes[k] for k in names}
    assert {k for k, v in given.items() if v.dtype == torch.int64} == {"edge_index", "atom_types"}
    assert {v.dtype for v in given.values()} == {torch.int64, torch.float64}
    centres, images = given["edge_index"]
    assert (n > len(structure)) == (not reads_neighbours(model))  # ghosts are atoms of their own for allegro alone
    assert int(centres.max()) < len(structure) and int(images.max()) < n
    answers = program(*given.values())
    assert [tuple(a.shape) for a in answers] == [(n, 1), (n, 3), (1, 3, 3)] and {a.dtype for a in answers} == {torch.float64}
    found = worst(engine_of(program, model), model, [structure, *others])
    assert set(found) == {"energy", "forces", "virial", "site energies"} and max(found.values()) < 1e-12


@pytest.mark.filterwarnings("ignore")  # torch warns about itself
def test_10_the_package_and_what_it_says_of_itself(model_of: ModelOf, tmp_path) -> None:
    model = model_of("Morse")
    made = model.export(tmp_path / "made", "nequip")
    assert PACKAGE.endswith(".nequip.pt2") and {PACKAGE, EXPORTED, "export.json"} <= set(made.files)
    assert max(made.checks.values()) < 1e-10  # of the compiled program
    said = torch._inductor.aoti_load_package(str(made.folder / PACKAGE)).get_metadata()
    assert {k: said[k] for k in metadata(model)} == metadata(model)
    assert float(said["r_max"]) == model.cutoff and said["type_names"].split() == list(model.species)
    assert int(said["num_types"]) == len(model.species) and said["allow_tf32"] == "0" and said["per_edge_type_cutoff"] == ""
    assert "nequip_aoti_inputs" not in said  # so the pair style takes its own order
    lines = [line.strip() for line in made.usage.splitlines()[1:]]
    assert lines[:2] == ["newton on", "pair_style allegro"] and lines[2].endswith(f"{PACKAGE} {' '.join(model.species)}")
