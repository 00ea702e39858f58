"""Reference data: reading, checking, grouping, dividing and looking at them."""

from composer.data.data import By, Data
from composer.data.frame import Frame
from composer.data.read import read_data

__all__ = ["By", "Data", "Frame", "read_data"]
