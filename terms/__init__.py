"""The vocabulary: physics terms, one file per kind."""

import composer

if getattr(composer, "__composer_api__", None) != 1:
    raise ImportError(
        f"The terms of composer-potentials were imported, but `composer` is another package ({getattr(composer, '__file__', None)}). "
        "Both cannot live in one environment. Uninstall that package, or use a fresh virtual environment."
    )

from terms.bond import Bond
from terms.charges import Charges
from terms.density import Density
from terms.dispersion import Dispersion
from terms.electrostatics import Coulomb
from terms.embedding import Embedding
from terms.exterior import ExteriorPotential
from terms.four_body import FourBody
from terms.nep import NEP
from terms.pair import BornMayer, Buckingham, LennardJones, Morse, Pair
from terms.pair_formula import PairFormula
from terms.stillinger_weber import StillingerWeber
from terms.tersoff import Tersoff
from terms.three_body import ThreeBody
from terms.zbl import ZBL

__composer_api__ = 1

__all__ = [
    "NEP",
    "ZBL",
    "Bond",
    "BornMayer",
    "Buckingham",
    "Charges",
    "Coulomb",
    "Density",
    "Dispersion",
    "Embedding",
    "ExteriorPotential",
    "FourBody",
    "LennardJones",
    "Morse",
    "Pair",
    "PairFormula",
    "StillingerWeber",
    "Tersoff",
    "ThreeBody",
]
