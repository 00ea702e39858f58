"""Settings of all tests: quick builds, one thread, idle threads that sleep. Set before anything is imported."""

import os

os.environ.setdefault("COMPOSER_OPT", "-O1")
os.environ.setdefault("AOT_INDUCTOR_COMPILE_WRAPPER_OPT_LEVEL", "O0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

SHARED = ("laws",)  # folders whose files share what is slow to make


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each file, or folder of those above, goes to one process as a whole."""
    for item in items:
        file = Path(item.path)
        item.add_marker(pytest.mark.xdist_group(file.parent.name if file.parent.name in SHARED else f"{file.parent.name}.{file.stem}"))
