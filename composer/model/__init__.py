"""Models: expressions with numbers, compiled to kernels and callable on structures."""

from composer.model.compiling import compile
from composer.model.device import DeviceModel
from composer.model.entries import E0, Entry
from composer.model.model import Model
from composer.model.result import Jacobian, Result

__all__ = ["E0", "DeviceModel", "Entry", "Jacobian", "Model", "Result", "compile"]
