"""The vocabulary: physics terms, one file per kind."""

from terms.bond import Bond
from terms.density import Density
from terms.embedding import Embedding
from terms.four_body import FourBody
from terms.pair import BornMayer, Buckingham, LennardJones, Morse, Pair
from terms.pair_formula import PairFormula
from terms.stillinger_weber import StillingerWeber
from terms.tersoff import Tersoff
from terms.three_body import ThreeBody
from terms.zbl import ZBL

__composer_api__ = 1

__all__ = [
    "ZBL",
    "Bond",
    "BornMayer",
    "Buckingham",
    "Density",
    "Embedding",
    "FourBody",
    "LennardJones",
    "Morse",
    "Pair",
    "PairFormula",
    "StillingerWeber",
    "Tersoff",
    "ThreeBody",
]
