"""A search that other processes run: without a guard around its main program, on purpose."""

from __future__ import annotations

import sys
from importlib import import_module

import composer
from tests.search.conftest import ANGLES, SMALL, VOCABULARY, passed, planted

import_module("composer.search.jury").examine = passed  # type: ignore[attr-defined]
workers = int(sys.argv[2])
found = composer.search(
    planted(SMALL + ANGLES, count=15, noise=0.02),
    VOCABULARY,
    max_parameters=14,
    budget=6,
    storage=sys.argv[1],
    executor=workers or None,
    quiet=True,
)
print(len(found.trials), min((t for t in found.trials if not t.failed), key=lambda t: (t.criterion, t.key)).key)
