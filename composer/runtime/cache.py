"""The folder of compiled libraries: where it is, whose it is, and who writes in it.

Layout: COMPOSER_CACHE or the user's cache folder, then `kernels/`. A folder or file is read only when this user (or root)
owns it and nobody else may write it, because a library runs with the rights of whoever loads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from composer.errors import BackendError


def cache_folder() -> Path:
    """The folder of compiled libraries that this user asked for, or the platform's usual one.

    Returns: an absolute path, which need not exist.
    """
    chosen = os.environ.get("COMPOSER_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute() / "kernels"
    home = Path(os.path.expanduser("~"))
    if not home.is_absolute():
        return private_folder()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "composer" / "kernels"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache").absolute() / "composer" / "kernels"


def private_folder() -> Path:
    """The temporary folder of this user, which serves where the cache folder cannot be written."""
    return Path(tempfile.gettempdir()) / f"composer-{os.geteuid()}"


def writable_folder() -> Path:
    """The first folder that can be written and that nobody else can write.

    Returns: an existing folder.
    Errors: BackendError when neither the cache folder nor the temporary folder will do.
    """
    for folder in (cache_folder(), private_folder()):
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if trusted(folder) and os.access(folder, os.W_OK):
                return folder
    raise BackendError(
        "A compiled library was to be kept on disk",
        f"Neither {cache_folder()} nor {private_folder()} is a folder that only this user can write",
        "Set COMPOSER_CACHE to such a folder, for example: export COMPOSER_CACHE=$HOME/composer-cache",
    )


def trusted(path: Path) -> bool:
    """Whether a file or folder belongs to this user or to root and nobody else may write it (links are refused)."""
    try:
        status = path.lstat()
    except OSError:
        return False
    kind = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return kind and status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def find(name: str) -> Path | None:
    """The trusted file of this name in the cache folder, else in the private one, else None."""
    for folder in (cache_folder(), private_folder()):
        if trusted(folder) and trusted(folder / name):
            return folder / name
    return None


@contextlib.contextmanager
def writing(name: str) -> Iterator[Path]:
    """Hold the lock of a name and hand out an empty folder to work in, beside the finished files; it is removed afterwards.

    The lock saves work only; correctness rests on `os.replace`, so a file system without locks is good enough.
    Errors: BackendError when the disk is full or cannot be written.
    """
    folder = writable_folder()
    lock_path = folder / f"{name}.lock"
    try:
        with open(lock_path, "w") as lock, tempfile.TemporaryDirectory(prefix="build-", dir=folder) as workplace:
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield Path(workplace)
            finally:
                # whoever still waits for this lock looks for the finished file first, so the name may go
                lock_path.unlink(missing_ok=True)
    except OSError as error:
        raise BackendError(
            "A compiled library was to be kept on disk",
            f"Writing in {folder} failed: {error}",
            "Free some space, or set COMPOSER_CACHE to another folder",
        ) from error


def keep(made: Path, target: Path) -> None:
    """Move a finished file out of its workplace to its name in the cache, at once and for this user alone."""
    made.chmod(0o700)
    os.replace(made, target)
