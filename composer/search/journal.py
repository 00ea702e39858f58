"""The journal of a search: one line of JSON for every event, on disk before the search goes on, and the numbers of every trial beside it.

Layout of a storage folder: journal-<run>.jsonl, and numbers-<run>/<key>.npz, which is written under another name, renamed, and only then
named by a line of the journal. A run is one call: data, vocabulary, weights, limits and seed. The same call goes on where the last one
ended; another call has a journal of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer.errors import DataError

Array = NDArray[np.float64]
SCHEMA = 3


class Journal:
    """The events of one run, in order; in memory alone where there is no storage.

    Arguments: storage, a folder or None; run, the name of the run; header, JSON data of the first line.
    Errors: DataError when the folder cannot be written, holds a journal of another schema, or is in use by another process.
    """

    def __init__(self, storage: str | Path | None, run: str, header: dict[str, Any]) -> None:
        self.run, self.path = run, None if storage is None else Path(storage) / f"journal-{run}.jsonl"
        self.events: list[dict[str, Any]] = []
        self._numbers: dict[str, dict[str, Array]] = {}
        self._file: io.BufferedRandom | None = None
        if self.path is not None:
            with _told(self.path):
                self._open(self.path)
        if not self.events:
            self.append("run", {"schema": SCHEMA, "run": run, **header})
        elif self.events[0].get("schema") != SCHEMA:
            raise DataError(
                f"The journal {self.path} was to be continued",
                f"Its schema is {self.events[0].get('schema')}, not {SCHEMA}",
                "Use another storage folder",
            )

    def _open(self, path: Path) -> None:
        (path.parent / f"numbers-{self.run}").mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise DataError(
                f"The journal {path} was to be continued", "Another process writes in it now", "Wait for it, or use another storage folder"
            ) from None
        self._file.seek(0)
        good = 0
        for line in self._file:
            event = _read(line)
            if event is None:
                break
            self.events.append(event)
            good += len(line)
        self._file.truncate(good)  # a line that was cut short by a kill
        self._file.seek(0, os.SEEK_END)

    def append(self, kind: str, event: dict[str, Any]) -> dict[str, Any]:
        """Write an event; it is on disk when this returns. Errors: DataError when it cannot be written; what was written before stays."""
        made = {"event": kind, **event, "time": time.time()}
        if self._file is not None and self.path is not None:
            with _told(self.path):
                self._write(self._file, (json.dumps(made, sort_keys=True) + "\n").encode())
        self.events.append(made)
        return made

    def _write(self, file: io.BufferedRandom, line: bytes) -> None:
        end = os.fstat(file.fileno()).st_size
        try:
            view = memoryview(line)
            while view:  # past the buffer: what cannot be written must not come back later
                view = view[os.write(file.fileno(), view) :]
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), end)
            raise

    def keep(self, key: str, **numbers: Array) -> None:
        """Store the numbers of a trial."""
        self._numbers[key] = numbers
        if self.path is None:
            return
        target = self._place(key)
        with _told(target):
            trial = target.with_name(f".{target.name}.{os.getpid()}")
            try:
                with open(trial, "wb") as file:
                    np.savez(file, **numbers)  # type: ignore[arg-type]
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(trial, target)
            finally:
                with contextlib.suppress(OSError):
                    trial.unlink()

    def numbers(self, key: str) -> dict[str, Array]:
        """The numbers of a trial. Errors: DataError when their file is gone or damaged."""
        if key not in self._numbers:
            try:
                with np.load(self._place(key), allow_pickle=False) as found:
                    self._numbers[key] = {name: found[name] for name in found.files}
            except (OSError, ValueError, EOFError, KeyError) as error:
                raise DataError(
                    f"The numbers of trial {key} were to be read", f"{error}", "Use another storage folder: this one was changed"
                ) from None
        return self._numbers[key]

    def find(self, kind: str, key: str) -> dict[str, Any] | None:
        """The last event of a kind with this key."""
        return next((e for e in reversed(self.events) if e["event"] == kind and e.get("key") == key), None)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _place(self, key: str) -> Path:
        assert self.path is not None
        return self.path.parent / f"numbers-{self.run}" / f"{key}.npz"


def _read(line: bytes) -> dict[str, Any] | None:
    """The event of a whole line, or None for a torn one."""
    if not line.endswith(b"\n"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


@contextlib.contextmanager
def _told(path: Path):  # type: ignore[no-untyped-def]
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The search was to write {path}",
            f"It cannot: {error.strerror or error}",
            "Make room or use another storage folder, then make the same call again: it goes on with what is on disk",
        ) from error
