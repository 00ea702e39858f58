"""The algebra of terms: frozen declarations joined by +, -, *, / number, ** integer and a few functions.

An expression states one scalar for each site. Canonical form is made at construction (flatten, collect, sort; never distribute), so
equal physics is one object: `a + b == b + a`, hashable and printable. Equal operands are tied (one set of parameters); names untie.
"""

from composer.algebra.functions import SMOOTHING, Function, exp, log1p, sqrt, tanh
from composer.algebra.operators import Constant, Expression, Product, Sum, as_expression, is_number
from composer.algebra.reading import expression
from composer.algebra.rewriting import replaced
from composer.algebra.term import REGISTRY, Scale, Term

__all__ = [
    "REGISTRY",
    "SMOOTHING",
    "as_expression",
    "Constant",
    "exp",
    "Expression",
    "expression",
    "Function",
    "is_number",
    "log1p",
    "Product",
    "replaced",
    "Scale",
    "sqrt",
    "Sum",
    "tanh",
    "Term",
]
