"""Target tersoff."""

from composer.export.triplets import TERSOFF

write, check_engine = TERSOFF.write, TERSOFF.check_engine
