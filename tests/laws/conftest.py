"""Every expression of the catalogue, ready to be tried."""

from __future__ import annotations

import pytest

from tests.catalogue import CATALOGUE
from tests.laws.subjects import Subject, subjects


@pytest.fixture(scope="session")
def all_subjects() -> dict[str, Subject]:
    return subjects(CATALOGUE)


@pytest.fixture(params=list(CATALOGUE))
def subject(request: pytest.FixtureRequest, all_subjects: dict[str, Subject]) -> Subject:
    return all_subjects[request.param]
