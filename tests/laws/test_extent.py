"""How far energies reach: supercells, distant atoms, the cutoff, isolated atoms, batches and threads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms

from composer.autograd import call
from composer.ir.nodes import Node
from composer.model import Result
from composer.model.structures import whole
from composer.runtime import threads
from tests.catalogue import TERMS
from tests.laws.structures import molecule, of, slab, triclinic
from tests.laws.subjects import TOLERANCE, Subject, assert_close, random


def evaluate(subject: Subject, *structures: Atoms) -> Result:
    return subject.model(subject.model.prepare(of(subject.model.species, structures)))


def stages(node: Node) -> int:
    """How many times a field is read at a neighbour, at most."""
    return max((stages(a) for a in node.args), default=0) + (node.op == "near")


def test_supercells(subject: Subject) -> None:
    """Energies are extensive, forces repeat, the virial grows with the volume (acceptance 12)."""
    whole, plate = triclinic(), slab()
    found, wanted = evaluate(subject, whole * (2, 1, 2), plate * (1, 3, 1)), evaluate(subject, whole, plate)
    times = torch.tensor([4.0, 3.0], dtype=torch.float64)
    repeated = [t.repeat(int(n), 1) for n, t in zip(times, wanted.forces.split([len(whole), len(plate)]))]
    assert_close(found.energy, times * wanted.energy, "symmetry")
    assert_close(found.forces, torch.cat(repeated), "symmetry")
    assert_close(found.virial, times[:, None, None] * wanted.virial, "symmetry")
    assert_close(found.virial[0] / 4 / whole.get_volume(), -evaluate(subject, whole).stress[0], "symmetry")


def test_distant_atoms_do_not_meet(subject: Subject) -> None:
    """Two molecules further apart than anything reaches have the sum of their energies, to the last bit of each site."""
    one, other = molecule(seed=11), molecule("SiOC", seed=12)
    alone = evaluate(subject, one)
    reach = subject.model.cutoff * (1 + stages(subject.model.node))
    apart = other.copy()
    apart.positions += [np.ptp(one.positions[:, 0]) + reach + 4.0, 0.0, 0.0]
    near = other.copy()
    while (one + near).get_all_distances()[: len(one), len(one) :].min() < 1.8:
        near.positions += [0.0, 0.0, 0.05]
    together = evaluate(subject, one + apart)
    assert_close(together.energies[: len(one)], alone.energies, "identity")
    assert_close(together.forces[: len(one)], alone.forces, "identity")
    touching = evaluate(subject, one + near)
    assert (touching.forces[: len(one)] - alone.forces).abs().max() > 1e-8  # and nearer they do meet


def test_isolated_atoms_have_no_energy_but_their_own(subject: Subject) -> None:
    """Zero with finite derivatives of every kind: by positions, by parameters, and of second order."""
    model = subject.model
    batch = whole(model.prepare([Atoms(s) for s in model.species]))
    found, own = model(batch), model.parameters["E0"]
    assert own.abs().min() > 0.0
    torch.testing.assert_close(found.energy, own, rtol=0, atol=1e-13)
    assert found.forces.abs().max() == 0.0 and found.virial.abs().max() == 0.0
    jacobian = model.jacobian(batch)
    first = [n.startswith("E0") for n in model.parameter_names]
    torch.testing.assert_close(jacobian.energy[:, first], torch.eye(len(own), dtype=torch.float64))
    assert jacobian.energy.isfinite().all() and not jacobian.forces.any() and not jacobian.virial.any()
    assert all(abs(v) < 1e-12 for v in jacobian.energy[:, [not f for f in first]].flatten().tolist())
    slopes = torch.func.grad(lambda theta, x: (call(model, batch, x, batch.cells, theta).forces * random(*x.shape)).sum(), argnums=(0, 1))
    assert all(bool(s.isfinite().all()) and not bool(s.any()) for s in slopes(model.theta, batch.positions))


def third_atom(subject: Subject, symbols: list[str], distance: float) -> float:
    """Energy (eV) of a dimer and a third atom at a distance (Å) from one of its atoms alone."""
    outward = distance * np.array([-0.8, 0.6, 0.0])
    return float(evaluate(subject, Atoms(symbols, [[0, 0, 0], [2.05, 0, 0], outward])).energy)


def steps_at_cutoff(subject: Subject, symbols: list[str]) -> list[float]:
    """|E(rc - h) - E(rc + h)| for h = 0.4, 0.2, ... Å as long as it can be told from rounding; the last six."""
    rc = subject.model.cutoff
    found = [abs(third_atom(subject, symbols, rc - h) - third_atom(subject, symbols, rc + h)) for h in 0.4 * 0.5 ** np.arange(12)]
    return [step for step in found if step > 1e-10][-6:]


@pytest.mark.parametrize("name", TERMS)
def test_terms_end_as_smoothly_as_they_declare(name: str, all_subjects: dict[str, Subject]) -> None:
    """Smoothness s: E(rc - h) - E(rc + h) falls faster than h^s; -1 is a jump, and stays one."""
    subject = all_subjects[name]
    smoothness = min(term.smoothness for term in subject.expression.terms())
    reached = False
    for a in subject.model.species:
        for b in subject.model.species:
            found = steps_at_cutoff(subject, [a, a, b])
            if len(found) < 2:
                continue
            reached = True
            order = math.log2(found[0] / found[-1]) / (len(found) - 1)
            assert abs(order) < 0.1 if smoothness < 0 else order > smoothness + 0.35, (a, b, order)
    assert reached, "nothing happens at the cutoff"


def test_a_batch_is_its_structures_one_by_one(subject: Subject) -> None:
    model, whole = subject.model, subject.model(subject.batch)
    jacobian = model.jacobian(subject.batch)
    alone = [model(model.prepare(atoms)) for atoms in subject.structures]
    assert_close(whole.energy, torch.cat([r.energy for r in alone]), "symmetry")
    assert_close(whole.energies, torch.cat([r.energies for r in alone]), "symmetry")
    assert_close(whole.forces, torch.cat([r.forces for r in alone]), "symmetry")
    assert_close(whole.virial, torch.cat([r.virial for r in alone]), "symmetry")
    columns = [model.jacobian(atoms) for atoms in subject.structures]
    beyond = 1e-8 if model.size > len(model.species) else 0.0
    assert_close(jacobian.energy, torch.cat([c.energy for c in columns]), "symmetry")
    assert_close(jacobian.forces, torch.cat([c.forces for c in columns]), "symmetry", beyond)
    assert_close(jacobian.virial, torch.cat([c.virial for c in columns]), "symmetry", beyond)


@pytest.fixture
def with_threads():
    """Run something with a number of threads, and put the old number back."""
    before = threads._count

    def run(count: int, what):
        threads.set_threads(count)
        return what()

    yield run
    threads._count = before


def test_threads_change_nothing_in_a_batch(subject: Subject, with_threads) -> None:
    """Bit for bit: each structure belongs to one thread, and sums run in a fixed order."""
    model, batch = subject.model, subject.batch

    def everything() -> list[torch.Tensor]:
        found, columns = model(batch), model.jacobian(batch)
        theta = model.theta.clone().requires_grad_()
        (slope,) = torch.autograd.grad((call(model, batch, batch.positions, batch.cells, theta).forces ** 2).sum(), theta)
        return [found.energies, found.forces, found.virial, columns.energy, columns.forces, columns.virial, slope]

    one, four = with_threads(1, everything), with_threads(4, everything)
    assert one[1].abs().max() > 1e-8
    assert all(torch.equal(a, b) for a, b in zip(one, four))


def test_threads_share_one_structure(subject: Subject, with_threads) -> None:
    """Acceptance 17: one structure cut in pieces for 1 and 4 threads, to rounding; site energies bit for bit."""
    batch = subject.model.prepare(of(subject.model.species, [triclinic() * (2, 2, 2)]))
    one, four = with_threads(1, lambda: subject.model(batch)), with_threads(4, lambda: subject.model(batch))
    assert torch.equal(one.energies, four.energies)
    assert_close(four.forces, one.forces, "threads")
    assert_close(four.virial, one.virial, "threads")
    assert TOLERANCE["threads"] <= 1e-12
