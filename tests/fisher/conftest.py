"""What the tests of Fisher reports are made of."""

from tests.small_sets import label, shaken, silicon

__all__ = ["label", "shaken", "silicon"]
