"""A bond-order term written twice: as a term of the algebra, and by hand in C++ with its derivatives worked out on paper."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ase.build
import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from composer.algebra import Term
from composer.model import Model
from composer.neighbors import Batch, all_positions, fold
from composer.quantities import Environment, Node, Param, dot, exp, power, sum_over
from composer.runtime.build import library
from terms import radial

NEAR, FAR = 3.1, 4.2  # Å
SPECIES = ("C", "O", "Si")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class BondOrder(Term):
    """E_i = sum_j f(r_ij) (A e^(-a r) - b_ij B e^(-c r)), b = (1 + zeta)^(-1/2), zeta = sum_{k != j} w(r_ik) (1 + g cos)^2 e^(r_ij - r_ik).

    f ends at `cutoff`, w at `cutoff_far` (Å); A, a per pair, B, c per ordered pair, g per ordered triplet.
    """

    cutoff: float = NEAR
    cutoff_far: float = FAR
    A = Param(6.0, per="pair", amplitude=True)
    B = Param(4.0, per="ordered pair", amplitude=True)
    a = Param(0.7, per="pair")
    c = Param(0.4, per="ordered pair")
    g = Param(0.3, per="ordered triplet")

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        k = env.neighbors(self.cutoff_far, other_than=j)
        bend = (1 + self.g[j, k] * dot(j.u, k.u)) ** 2
        zeta = sum_over(k, radial.smooth(k.r, self.cutoff_far) * bend * exp(j.r - k.r))
        bond = power(1 + zeta, -0.5)
        return sum_over(j, radial.smooth(j.r, self.cutoff) * (self.A[j] * exp(-self.a[j] * j.r) - bond * self.B[j] * exp(-self.c[j] * j.r)))


SOURCE = r"""
#include <cmath>
#include <cstdint>
static inline void smooth(double r, double rc, double& f, double& df) {
  const double x = r / rc, u = 1 - x * x;
  f = u * u * u;
  df = -6 * x * u * u / rc;
}
// A, a [6] by pair; B, c [9] by ordered pair; g [27] by ordered triplet.
extern "C" void bond_order(int64_t atoms, const double* x, const int32_t* kind, const int64_t* first, const int32_t* index, const double* A,
                           const double* a, const double* B, const double* c, const double* g, double* e, double* F) {
  static const int pair[9] = {0, 1, 2, 1, 3, 4, 2, 4, 5};
  double d[256][3], r[256], w[256], dw[256], ex[256];
  int id[256], s[256];
  for (int64_t i = 0; i < atoms; ++i) {
    int n = 0;
    for (int64_t p = first[i]; p < first[i + 1]; ++p) {
      const int j = index[p];
      const double dx = x[3 * j] - x[3 * i], dy = x[3 * j + 1] - x[3 * i + 1], dz = x[3 * j + 2] - x[3 * i + 2];
      const double r2 = dx * dx + dy * dy + dz * dz;
      if (r2 >= FAR * FAR) continue;
      d[n][0] = dx, d[n][1] = dy, d[n][2] = dz, r[n] = std::sqrt(r2), id[n] = j, s[n] = kind[j];
      smooth(r[n], FAR, w[n], dw[n]);
      ex[n] = std::exp(-r[n]);
      ++n;
    }
    const int si = kind[i];
    double energy = 0, fi[3] = {0, 0, 0};
    for (int j = 0; j < n; ++j) {
      if (r[j] >= NEAR) continue;
      const double grow = std::exp(r[j]), *gj = g + (si * 3 + s[j]) * 3;
      double sum = 0;
      for (int k = 0; k < n; ++k) {
        if (k == j) continue;
        const double cosine = (d[j][0] * d[k][0] + d[j][1] * d[k][1] + d[j][2] * d[k][2]) / (r[j] * r[k]), t = 1 + gj[s[k]] * cosine;
        sum += w[k] * t * t * ex[k];
      }
      const double zeta = grow * sum, bond = 1 / std::sqrt(1 + zeta);
      const int p = pair[si * 3 + s[j]], o = si * 3 + s[j];
      double f, df;
      smooth(r[j], NEAR, f, df);
      const double up = A[p] * std::exp(-a[p] * r[j]), down = B[o] * std::exp(-c[o] * r[j]);
      energy += f * (up - bond * down);
      const double dzeta = 0.5 * f * down * bond * bond * bond;  // dE/dzeta
      double radial_j = df * (up - bond * down) + f * (-a[p] * up + bond * c[o] * down) + dzeta * zeta, fj[3] = {0, 0, 0};
      for (int k = 0; k < n; ++k) {
        if (k == j) continue;
        const double inverse = 1 / (r[j] * r[k]);
        const double cosine = (d[j][0] * d[k][0] + d[j][1] * d[k][1] + d[j][2] * d[k][2]) * inverse, t = 1 + gj[s[k]] * cosine;
        const double part = dzeta * grow * ex[k], dcos = part * w[k] * 2 * t * gj[s[k]], dr = part * t * t * (dw[k] - w[k]);
        for (int q = 0; q < 3; ++q) {
          fj[q] += dcos * (d[k][q] * inverse - cosine * d[j][q] / (r[j] * r[j]));
          const double fk = dcos * (d[j][q] * inverse - cosine * d[k][q] / (r[k] * r[k])) + dr * d[k][q] / r[k];
          F[3 * id[k] + q] -= fk;
          fi[q] += fk;
        }
      }
      for (int q = 0; q < 3; ++q) {
        const double pull = fj[q] + radial_j * d[j][q] / r[j];
        F[3 * id[j] + q] -= pull;
        fi[q] += pull;
      }
    }
    e[i] = energy;
    for (int q = 0; q < 3; ++q) F[3 * i + q] += fi[q];
  }
}
"""


def model() -> Any:
    """The term with numbers that differ for all species."""
    found = Model(BondOrder(), SPECIES)
    values = torch.linspace(0.8, 1.2, found.size, dtype=torch.float64) * found.theta
    values[: len(SPECIES)] = 0.0
    return found.with_parameters(values)


def crystal(cells: int = 8, seed: int = 3) -> Atoms:
    """Shaken diamond with three species at random."""
    rng = np.random.default_rng(seed)
    atoms = ase.build.bulk("Si", "diamond", a=4.6, cubic=True) * (cells, cells, cells)
    atoms.positions += rng.uniform(-0.1, 0.1, atoms.positions.shape)
    atoms.symbols = rng.choice(SPECIES, len(atoms))
    return atoms


def by_hand(found: Any, batch: Batch) -> Callable[[], tuple[Tensor, Tensor]]:
    """A call of the hand-written code on the same list: site energies and forces."""
    run = library(SOURCE.replace("NEAR", repr(NEAR)).replace("FAR", repr(FAR))).bond_order
    run.restype = None
    tables = [found.parameters[f"BondOrder.{name}"].contiguous() for name in ("A", "a", "B", "c", "g")]
    species = torch.cat([batch.species, batch.species[batch.ghost_owner.long()]]).contiguous()

    def call() -> tuple[Tensor, Tensor]:
        x = all_positions(batch)
        e, forces = torch.zeros(batch.atoms, dtype=torch.float64), torch.zeros(batch.sites, 3, dtype=torch.float64)
        arrays = (x, species, batch.first, batch.index, *tables, e, forces)
        run(ctypes.c_int64(batch.atoms), *(ctypes.c_void_p(t.data_ptr()) for t in arrays))
        return e, fold(batch, forces)

    return call
