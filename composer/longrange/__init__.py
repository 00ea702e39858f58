"""Long-range sums for any torch model: phi_i = sum_j q_j / r_ij^p over all periodic images, differentiable twice.

    phi = composer.longrange.potential(positions, charges, cell)     charge/Å^p; the energy is COULOMB * (charges * phi).sum() / 2

A split with its cutoff in real space makes a sum, and either a cutoff in k space or a mesh. `prepare` chooses them from the accuracy and keeps the
neighbour list, for many calls at nearby positions.
"""

from composer.longrange.equilibration import Equilibrated, equilibrate
from composer.longrange.sums import Evaluated, NetCharge, Sum, potential, prepare
from composer.units import COULOMB

__all__ = ["COULOMB", "Equilibrated", "Evaluated", "NetCharge", "Sum", "equilibrate", "potential", "prepare"]
