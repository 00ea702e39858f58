"""Model files: one zip of JSON and safetensors. No code is in them, none is run when they are read.

    manifest.json         format, schema, sha256 of the other parts
    model.json            expression, species, domain, provenance
    numbers.safetensors   every parameter table by name; `covariance root` where the fit gave one

Equal models give equal files: no clock time is stored.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from composer.algebra import Expression, expression
from composer.errors import ComposerError, DataError

FORMAT = "composer model"
SCHEMA = 1
PARTS = ("model.json", "numbers.safetensors")
LARGEST = 2**30  # bytes of all parts together
ROOT = "covariance root"


@dataclass(frozen=True)
class Contents:
    """What a model file holds."""

    expression: Expression
    species: tuple[str, ...]
    parameters: dict[str, np.ndarray]  # tables by name
    domain: dict[str, float] = field(default_factory=dict)  # shortest distances of the fit, Å
    provenance: dict[str, Any] = field(default_factory=dict)
    covariance_root: np.ndarray | None = None  # C [P, n] with covariance C C^T of the free numbers


def save(model: Any, path: str | Path, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write a model to a file; an older file is replaced at once or not at all.

    Arguments: model, with the attributes domain, provenance and covariance_root where it has them; path, e.g. "si.composer";
    provenance, JSON data that is added (seeds, hashes of data, errors). Returns: the path.
    Errors: DataError when the provenance is no JSON data, or the file cannot be written.
    """
    path = Path(path)
    notes = {**getattr(model, "provenance", {}), **(provenance or {}), "versions": versions()}
    description = {
        "expression": model.expression.data(),
        "species": list(model.species),
        "domain": dict(getattr(model, "domain", {})),
        "provenance": notes,
    }
    root = getattr(model, "covariance_root", None)
    numbers = {f"parameter {name}": _array(table) for name, table in model.parameters.items()}
    numbers |= {} if root is None else {ROOT: _array(root)}
    try:
        text = json.dumps(description, sort_keys=True, indent=1, default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"A model was to be saved to {path}", f"Its provenance is no JSON data: {error}", "Give numbers and texts"
        ) from None
    _write(path, _pack({PARTS[0]: text.encode(), PARTS[1]: save_tensors(numbers)}))
    return path


def read_model(path: str | Path, make: Callable[[Expression, tuple[str, ...]], Any]) -> Any:
    """The model of a file.

    Arguments: path; make, what builds a model of an expression and species (the face of composer hands it in, with all terms imported).
    Returns: the model, with domain, provenance and covariance_root as they were saved.
    Errors: DataError for a file that is missing, foreign, cut, changed, or of a newer composer.
    """
    found = read(path)
    try:
        model = make(found.expression, found.species)
    except ComposerError as error:
        raise _refusal(path, f"Its model cannot be built: {error}") from None
    wanted = {name: tuple(table.shape) for name, table in model.parameters.items()}
    given = {name: table.shape for name, table in found.parameters.items()}
    odd = sorted({n for n in wanted.keys() | given.keys() if wanted.get(n) != given.get(n)})
    odd += [n for n, table in found.parameters.items() if not np.isfinite(table).all()]
    if odd:
        raise _refusal(path, f"Its numbers do not fit its expression, or are not finite: {', '.join(odd)}")
    model = model.with_parameters(found.parameters)
    model.domain, model.provenance, model.covariance_root = found.domain, found.provenance, found.covariance_root
    return model


def read(path: str | Path) -> Contents:
    """The contents of a model file, checked against the hashes it holds. Errors: as in `read_model`."""
    parts = _unpack(Path(path))
    try:
        description = json.loads(parts[PARTS[0]])
        expr = expression(json.dumps(description["expression"]))
        numbers = {name: np.array(table) for name, table in load_tensors(parts[PARTS[1]]).items()}
        root = numbers.pop(ROOT, None)
        tables = {name.removeprefix("parameter "): table for name, table in numbers.items()}
        domain = {str(pair): float(r) for pair, r in description["domain"].items()}
        species, notes = tuple(map(str, description["species"])), dict(description["provenance"])
    except ComposerError as error:
        raise _refusal(path, f"Its expression cannot be read: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, SafetensorError) as error:
        raise _refusal(path, f"Its parts do not make sense ({type(error).__name__}: {error})") from None
    return Contents(expr, species, tables, domain, notes, root)


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"composer": str(getattr(sys.modules["composer"], "__version__", "unknown")), "python": platform.python_version()}
    for name in ("numpy", "torch", "vesin"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe(model: Any) -> str:
    """The formula of a model with units, its numbers, and where they come from. Arguments: a model. Returns: lines of text."""
    lines = [model.describe(), "numbers"]
    for entry in model.entries:
        values = np.array2string(_array(model.parameters[entry.name]), precision=6, separator=", ", threshold=100)
        lines.append(f"  {entry.name} [{entry.unit or '1'}]\n    " + values.replace("\n", "\n    "))
    domain = getattr(model, "domain", {})
    lines += ["shortest distances of the fit"] + [f"  {pair:8s} {r:.3f} Å" for pair, r in domain.items()] if domain else []
    notes = getattr(model, "provenance", {})
    lines += ["provenance", *_indented(notes)] if notes else []
    return "\n".join(lines)


def _indented(notes: Any, depth: int = 1) -> list[str]:
    lines = []
    for key, value in notes.items():
        if isinstance(value, Mapping):
            lines += ["  " * depth + str(key), *_indented(value, depth + 1)]
        else:
            lines.append("  " * depth + f"{key}: {value}")
    return lines


def _pack(parts: dict[str, bytes]) -> bytes:
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    manifest = json.dumps({"format": FORMAT, "schema": SCHEMA, "parts": hashes}, sort_keys=True)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"manifest.json": manifest.encode(), **parts}.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def make_folder_of(path: Path) -> None:
    """Make the folder of a file that is to be written, perhaps after a long calculation. Errors: DataError where that will fail."""
    asked = f"The file {path} was to be written"
    if path.is_dir():
        raise DataError(asked, "It is a folder", "Give the name of a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise DataError(asked, f"Its folder cannot be written: {error.strerror or error}", "Give another path") from error


def _write(path: Path, content: bytes) -> None:
    make_folder_of(path)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
            temporary = stream.name
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise DataError(
            f"A model was to be saved to {path}",
            f"Writing failed: {error.strerror or error}",
            f"Check the folder {path.parent} and the space on the disk",
        ) from None


def _unpack(path: Path) -> dict[str, bytes]:
    if not path.is_file():
        found = "It is a folder" if path.is_dir() else "It does not exist"
        raise DataError(f"The model file {path} was to be read", found, "Give a file written by model.save(path)")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > LARGEST:
                raise _refusal(path, f"Its parts hold more than {LARGEST} bytes")
            manifest = json.loads(archive.read("manifest.json"))
            schema, hashes = _identify(path, manifest)
            if schema > SCHEMA:
                raise _refusal(path, f"It has schema {schema}, this composer knows up to {SCHEMA}", "Update composer-potentials")
            parts = {name: archive.read(name) for name in PARTS}
    except DataError:
        raise
    except Exception as error:  # zipfile raises many kinds on damaged files; all mean the same
        raise _refusal(path, f"It is damaged or no model file ({type(error).__name__}: {str(error)[:120]})") from None
    for name, content in parts.items():
        if hashlib.sha256(content).hexdigest() != hashes.get(name):
            raise _refusal(path, f"Its part {name} was changed: its sha256 is not the one in the manifest")
    return parts


def _identify(path: Path, manifest: Any) -> tuple[int, dict[str, str]]:
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise _refusal(path, "It is a zip file of another kind")
    return int(manifest["schema"]), dict(manifest["parts"])


def _refusal(
    path: str | Path, found: str, type_this: str = "Copy the file again, or save the model again with model.save(path)"
) -> DataError:
    return DataError(f"The model file {path} was to be read", found, type_this)


def _array(table: Any) -> np.ndarray:
    return np.asarray(table, dtype=np.float64).copy(order="C")


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy and torch as JSON data."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {str(value)[:40]!r}")
