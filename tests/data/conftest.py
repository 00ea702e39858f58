"""Folder of the sets that are used for tests and benchmarks but do not ship with the package."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """`COMPOSER_SHARED`, or `shared` beside the repository."""
    folder = Path(os.environ.get("COMPOSER_SHARED", Path(__file__).parents[3] / "shared")) / "data"
    if not (folder / "mlearn").is_dir():
        pytest.skip(f"the sets mlearn and monbtaw are not in {folder}; set COMPOSER_SHARED")
    return folder
