"""Reference data: reading, checking, grouping, dividing and looking at them."""

from composer.data.data import Data
from composer.data.frame import Frame
from composer.data.read import read_data

__all__ = ["Data", "Frame", "read_data"]
