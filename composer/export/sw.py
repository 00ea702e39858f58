"""Target sw."""

from composer.export.triplets import SW

write, check_engine = SW.write, SW.check_engine
