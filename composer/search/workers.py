"""Who does the work: this process, worker processes of its own, or any executor. Results are handed out in the order of the items."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.context
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from typing import Any

from composer.algebra import Expression
from composer.errors import AlgebraError, BackendError

_MAIN = threading.Lock()


class Workers:
    """A map over items that survives the death of a worker. Arguments: executor, None, a number of processes, or an Executor."""

    def __init__(self, executor: Executor | int | None = None) -> None:
        if isinstance(executor, bool) or not (
            executor is None or isinstance(executor, int) and executor > 0 or hasattr(executor, "submit")
        ):
            raise BackendError(
                f"A search with executor={executor!r} was asked for",
                "It is neither None, nor a number of processes, nor an executor",
                "Write executor=2, or pass a concurrent.futures.Executor",
            )
        self._given = None if isinstance(executor, int) else executor
        self._count = executor if isinstance(executor, int) else 0
        self._pool: ProcessPoolExecutor | None = None

    @property
    def alone(self) -> bool:
        """Whether the work is done in this process."""
        return self._given is None and not self._count

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def map(self, function: Callable[..., Any], *iterables: Iterable[Any]) -> Iterator[Any]:
        """As the builtin, over workers; an exception of a call is raised here."""
        for found in self.each(function, list(zip(*iterables, strict=False))):
            if isinstance(found, Exception):
                raise found
            yield found

    def each(self, function: Callable[..., Any], items: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """The result of function(*item), or the exception that it raised, for every item in order."""
        if self.alone:
            yield from (_attempt(function, item) for item in items)
            return
        futures = [self._submit(function, item) for item in items]
        try:
            for item, future in zip(items, futures, strict=True):
                found = self._result(future)
                if isinstance(found, BrokenExecutor):  # some worker died, perhaps by another item: this one once more, by itself
                    self.close()
                    found = self._result(self._submit(function, item))
                    if isinstance(found, BrokenExecutor):
                        self.close()
                        found = BackendError(
                            "A worker process was given a task", f"It died: {found}", "See its memory, or the messages above"
                        )
                yield found
        finally:
            for future in futures:
                if not isinstance(future, Exception):
                    future.cancel()

    def _submit(self, function: Callable[..., Any], item: tuple[Any, ...]) -> Future[Any] | Exception:
        try:
            return self._executor().submit(function, *item)
        except (BrokenExecutor, RuntimeError) as error:
            return error if isinstance(error, BrokenExecutor) else BrokenExecutor(str(error))

    def _result(self, future: Future[Any] | Exception) -> Any:
        if isinstance(future, Exception):
            return future
        try:
            return future.result()
        except Exception as error:  # whatever a task raises is told, and does not end the run
            return error

    def _executor(self) -> Executor:
        if self._given is not None:
            return self._given
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._count, _Spawn(), _settle)
        return self._pool

    def close(self) -> None:
        """End the processes that were started here; an executor that was given is left alone."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with contextlib.suppress(OSError, ValueError):
                process.terminate()
        for process in processes:
            with contextlib.suppress(OSError, ValueError, AssertionError):
                process.join(5)


def check(workers: Workers, expressions: Iterable[Expression]) -> None:
    """Raise an AlgebraError for terms that other processes cannot know."""
    local = sorted({type(t).__name__ for e in expressions for t in e.terms() if type(t).__module__ == "__main__"})
    if local and not workers.alone:
        raise AlgebraError(
            f"A search in worker processes was asked for with the terms {', '.join(local)}",
            "They are defined in the script that runs, which workers do not import",
            "Move them to a module, or write executor=None",
        )


def _attempt(function: Callable[..., Any], item: tuple[Any, ...]) -> Any:
    try:
        return function(*item)
    except Exception as error:
        return error


def _settle() -> None:
    """A worker uses one thread, leaves Ctrl-C to its parent, and ends when the parent has gone, even by a kill."""
    import torch

    from composer.runtime import threads

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threads.set_threads(1)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


class _Process(multiprocessing.context.SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _without_main():
            return multiprocessing.context.SpawnProcess._Popen(process_obj)  # type: ignore[attr-defined]


class _Spawn(multiprocessing.context.SpawnContext):
    """Fresh processes that do not run the script of their parent again, so that it needs no guard."""

    Process = _Process


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    with _MAIN:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


__all__ = ["Workers", "check"]
