"""Models: expressions with numbers, compiled to kernels and callable on structures."""

from composer.model.entries import E0, Entry
from composer.model.model import Model, compile
from composer.model.result import Jacobian, Result

__all__ = ["E0", "Entry", "Jacobian", "Model", "Result", "compile"]
