"""What the tests of fits are made of."""

from tests.small_sets import label, shaken, silicon

__all__ = ["label", "shaken", "silicon"]
