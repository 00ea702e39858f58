"""Models for other programs: C, LAMMPS, native files, Python engines; each compared with the model before it is written."""

from __future__ import annotations

from composer.export.folder import Export
from composer.export.plugin import lammps_plugin
from composer.export.targets import TARGETS
from composer.export.validation import Validation, validate
from composer.export.writing import export

__all__ = ["TARGETS", "Export", "Validation", "export", "lammps_plugin", "validate"]
