"""Reference data: reading, checking, grouping, dividing and looking at them."""

from composer.data.data import By, Data
from composer.data.frame import Frame
from composer.data.read import BrokenFrames, read_data

__all__ = ["BrokenFrames", "By", "Data", "Frame", "read_data"]
