"""An export is a folder: the files of its target, the model itself, and export.json with hashes and the numbers of the self-check."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.errors import DataError
from composer.modelfile import make_folder_of

FORMAT, SCHEMA = "composer export", 1
MANIFEST, MODEL = "export.json", "model.composer"


@dataclass(frozen=True)
class Export:
    """What was written: the folder (or single file), its target, its files, the numbers of the self-check, and how to use it."""

    folder: Path
    target: str
    files: tuple[str, ...]
    checks: dict[str, float]
    usage: str

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        checks = "\n".join(f"  {name:40s} {value:.1e}" for name, value in self.checks.items())
        return f"wrote {self.folder} ({', '.join(self.files)})\nlargest differences from the model\n{checks}\n{self.usage}"


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """An empty workplace whose files move to `folder` when the block ends well; if it fails, nothing is left.

    Errors: DataError when the folder cannot be written, or holds files of other origin under the same names.
    """
    if folder.exists() and not folder.is_dir():
        raise _refusal(folder, "It is a file", "Give the name of a folder")
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as place:
            workplace = Path(place)
            yield workplace
            made = sorted(f.name for f in workplace.iterdir())
            earlier = _earlier(folder)
            foreign = [n for n in made if (folder / n).exists() and n not in earlier]
            if foreign:
                raise _refusal(folder, f"It holds {', '.join(foreign)}, which no export wrote", "Give another folder, or move these files")
            for name in made:
                os.replace(workplace / name, folder / name)
            for name in earlier - set(made):
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise _refusal(folder, f"Writing failed: {error}", "Check the folder and the space on the disk") from None
    finally:
        if new:
            with contextlib.suppress(OSError):  # not empty: the export is in it
                folder.rmdir()


@contextlib.contextmanager
def writing_file(path: Path) -> Iterator[Path]:
    """An empty workplace whose one file becomes `path` when the block ends well; if it fails, nothing is left. Errors: DataError."""
    make_folder_of(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as place:
            yield Path(place)
            os.replace(next(Path(place).iterdir()), path)
    except OSError as error:
        raise _refusal(path, f"Writing failed: {error.strerror or error}", f"Check the folder {path.parent} and the disk") from None


def write_manifest(folder: Path, target: str, about: dict[str, Any]) -> None:
    """Write export.json with the sha256 of every other file of the folder."""
    files = {f.name: _hash(f) for f in sorted(folder.iterdir())}
    content = {"format": FORMAT, "schema": SCHEMA, "target": target, "files": files, **about}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The content of export.json, after all files were compared with their hashes.

    Errors: DataError for a folder that is no export, a newer schema, a file that is missing or was changed.
    """
    folder = Path(folder)
    again = "Export the model again"
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except OSError:
        raise DataError(f"The export {folder} was to be read", f"It has no {MANIFEST}", "Give a folder written by model.export") from None
    except ValueError as error:
        raise DataError(f"The export {folder} was to be read", f"Its {MANIFEST} is no JSON: {error}", again) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("files"), dict):
        raise DataError(
            f"The export {folder} was to be read", f"Its {MANIFEST} is of another kind", "Give a folder written by model.export"
        )
    if content.get("schema") != SCHEMA:
        raise DataError(
            f"The export {folder} was to be read",
            f"It has schema {content.get('schema')}, this composer knows {SCHEMA}",
            "Update composer, or export again",
        )
    for name, expected in content["files"].items():
        path = folder / Path(name).name
        if not path.is_file() or _hash(path) != expected:
            found = "was changed or cut" if path.is_file() else "is missing"
            raise DataError(f"The export {folder} was to be read", f"Its file {name} {found} since it was written", again)
    return content


def _earlier(folder: Path) -> set[str]:
    """Names of the files that an earlier export has written here."""
    try:
        content = json.loads((folder / MANIFEST).read_text())
        return {Path(n).name for n in content["files"]} | {MANIFEST} if content["format"] == FORMAT else set()
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refusal(folder: Path, found: str, type_this: str) -> DataError:
    return DataError(f"An export was to be written to {folder}", found, type_this)
