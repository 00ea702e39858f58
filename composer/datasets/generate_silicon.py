"""Generate a small, structurally diverse silicon data set with GPAW (plane waves, PBE).

Usage: OMP_NUM_THREADS=1 GPAW_SETUP_PATH=<folder of the gpaw-data setups> python generate_silicon.py OUT.xyz [part/parts]

Each frame carries energy (eV, the free energy, of which forces and stress are the derivatives), energy_sigma0 (eV, extrapolated
to zero smearing), forces (eV/Å), stress (eV/Å^3, ASE sign), `config_type` and `index`. The list of structures is deterministic and
visited in a fixed random order, so any prefix is a fair sample; frames already in OUT.xyz are skipped, so a run can be resumed.
Settings: PW(300 eV), PAW setup Si.PBE (4 valence electrons), Methfessel-Paxton order 1, 0.1 eV, Gamma-centred k-point density
4 points per 1/Å (diamond: converged to 1 meV/atom), density convergence 1e-5. Packages: gpaw==24.6.0, gpaw-data==1.2.1, ase.
"""

import os
import sys
import time

import numpy as np
from ase import Atoms
from ase.build import bulk, diamond100
from ase.io import read, write

A0 = 5.47


def strained(atoms, rng, strain, rattle):
    """Random symmetric strain (standard deviation) and random displacements (standard deviation, Å)."""
    eps = rng.normal(0.0, strain, (3, 3))
    new = atoms.copy()
    new.set_cell(new.cell @ (np.eye(3) + 0.5 * (eps + eps.T)), scale_atoms=True)
    new.positions += rng.normal(0.0, rattle, new.positions.shape)
    return new


def beta_tin(a, ratio=0.55):
    """Beta-tin silicon, 4-atom cell, c = ratio * a."""
    scaled = [(0, 0, 0), (0.5, 0.5, 0.5), (0, 0.5, 0.25), (0.5, 0, 0.75)]
    return Atoms("Si4", scaled_positions=scaled, cell=[a, a, ratio * a], pbc=True)


def random_cell(rng, n, volume, dmin):
    """Random cell of n atoms, volume in Å^3 per atom, all distances (images included) above dmin (Å), by sequential insertion."""
    shifts = np.array([(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)], float)
    for _ in range(2000):
        cell = np.diag(rng.uniform(0.8, 1.25, 3)) + rng.normal(0, 0.12, (3, 3))
        cell *= (n * volume / abs(np.linalg.det(cell))) ** (1 / 3)
        images = np.linalg.norm(shifts @ cell, axis=1)
        if np.sort(images)[1] < dmin:
            continue
        placed = [rng.uniform(size=3)]
        for _ in range(400 * n):
            new = rng.uniform(size=3)
            delta = (new - np.array(placed))[:, None, :] + shifts
            if np.linalg.norm(delta @ cell, axis=-1).min() > dmin:
                placed.append(new)
            if len(placed) == n:
                return Atoms(f"Si{n}", scaled_positions=placed, cell=cell, pbc=True)
    raise RuntimeError("no random cell found")


def structures():
    """The deterministic list of (config_type, atoms)."""
    rng = np.random.default_rng(20261121)
    out = []
    for s in np.linspace(0.90, 1.12, 14):
        out.append(("eos_diamond", bulk("Si", "diamond", a=A0 * s)))
    for s in np.linspace(0.92, 1.12, 8):
        out += [
            ("eos_beta_tin", beta_tin(4.81 * s)),
            ("eos_sc", bulk("Si", "sc", a=2.53 * s)),
            ("eos_bcc", bulk("Si", "bcc", a=3.08 * s)),
            ("eos_fcc", bulk("Si", "fcc", a=3.87 * s)),
            ("eos_hcp", bulk("Si", "hcp", a=2.70 * s, c=4.45 * s)),
        ]
    for i in range(30):
        out.append(("strain_diamond", strained(bulk("Si", "diamond", a=A0), rng, 0.015 + 0.0025 * i, 0.0)))
    for i in range(40):
        out.append(("rattle_diamond2", strained(bulk("Si", "diamond", a=A0 * rng.uniform(0.96, 1.05)), rng, 0.03, 0.02 + 0.005 * i)))
    for i in range(60):
        cell = bulk("Si", "diamond", a=A0 * rng.uniform(0.97, 1.04), cubic=True)
        out.append(("rattle_diamond8", strained(cell, rng, 0.015, 0.03 + 0.004 * i)))
    for i in range(16):
        out.append(("rattle_beta_tin", strained(beta_tin(4.81 * rng.uniform(0.96, 1.06)), rng, 0.03, 0.04 + 0.010 * i)))
        out.append(("rattle_bcc2", strained(bulk("Si", "bcc", a=3.08 * rng.uniform(0.96, 1.08), cubic=True), rng, 0.03, 0.04 + 0.012 * i)))
        out.append(("rattle_fcc4", strained(bulk("Si", "fcc", a=3.87 * rng.uniform(0.96, 1.08), cubic=True), rng, 0.03, 0.04 + 0.012 * i)))
    for i in range(20):
        cell = bulk("Si", "diamond", a=A0, cubic=True)
        del cell[0]
        out.append(("vacancy", strained(cell, rng, 0.012, 0.02 + 0.01 * i)))
    for i in range(12):
        slab = diamond100("Si", (1, 1, 8), a=A0, vacuum=4.5)
        slab.pbc = True
        out.append(("surface_100", strained(slab, rng, 0.01, 0.02 + 0.015 * i)))
    for _ in range(90):
        out.append(("random", random_cell(rng, int(rng.integers(2, 8)), rng.uniform(13.5, 25.0), 1.95)))
    for _ in range(30):
        out.append(("random8", random_cell(rng, 8, rng.uniform(16.0, 21.0), 2.05)))
    return out


def compute(atoms):
    """Energy, energy_sigma0, forces, stress of one structure; None when neither eigensolver converges."""
    from gpaw import GPAW, PW, MethfesselPaxton, Mixer  # pyright: ignore[reportMissingImports]

    for eigensolver in ("dav", "rmm-diis"):
        atoms.calc = GPAW(
            mode=PW(300),
            xc="PBE",
            kpts={"density": 4.0, "gamma": True},
            occupations=MethfesselPaxton(0.1, 1),
            mixer=Mixer(0.1, 5, 50),
            convergence={"density": 1e-5},
            eigensolver=eigensolver,
            maxiter=150,
            txt=None,
        )
        try:
            sigma0, energy = atoms.get_potential_energy(), atoms.get_potential_energy(force_consistent=True)
            return float(energy), float(sigma0), atoms.get_forces(), atoms.get_stress()
        except Exception as error:
            print(f"{eigensolver} failed: {error!r}"[:200], flush=True)
    return None


def main():
    from ase.calculators.singlepoint import SinglePointCalculator

    path = sys.argv[1]
    part, parts = map(int, sys.argv[2].split("/")) if len(sys.argv) > 2 else (0, 1)
    done = {frame.info["index"] for frame in read(path, ":")} if os.path.exists(path) else set()  # pyright: ignore[reportAttributeAccessIssue]
    todo = structures()
    for index in np.random.default_rng(1).permutation(len(todo))[part::parts]:
        kind, atoms = todo[index]
        if index in done:
            continue
        start = time.time()
        result = compute(atoms.copy())
        if result is None:
            print(f"{index} {kind} left out: not converged", flush=True)
            continue
        energy, sigma0, forces, stress = result
        frame = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
        frame.info.update(index=int(index), config_type=kind, energy_sigma0=sigma0)
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces, stress=stress)
        write(path, frame, append=True)
        print(
            f"{index} {kind} n={len(frame)} e={energy / len(frame):.4f} fmax={np.abs(forces).max():.2f} t={time.time() - start:.0f}s",
            flush=True,
        )


if __name__ == "__main__":
    main()
