"""Kills, full disks and workers that die: nothing that was written is lost, and the result is the same."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import composer
from composer.search.journal import Journal
from tests.search.conftest import ANGLES, LARGE, SMALL, VOCABULARY, journals, planted, sequence
from tests.search.terms_that_fail import Lethal, NotANumber, Unbuildable

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("COMPOSER_KILLS", "3"))  # 20 by hand


def start(storage: Path, workers: int = 0) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COMPOSER_OPT": "-O1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).with_name("runs.py")), str(storage), str(workers)]
    return subprocess.Popen(command, env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out


def journal(storage: Path) -> list[dict]:
    (path,) = storage.glob("journal-*.jsonl")
    return journals(path.read_text().splitlines())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    storage = tmp_path_factory.mktemp("whole")
    return storage, finish(start(storage))


def test_search_24_a_run_that_is_killed_goes_on_as_if_it_had_not_been(uninterrupted: tuple[Path, str], tmp_path: Path) -> None:
    """Number 19 of theory/interfaces.md, section 12."""
    whole, said = uninterrupted
    chance, seen = random.Random(0), 0
    for _ in range(KILLS):
        process = start(tmp_path)
        wanted = seen + chance.randint(1, max(18 // KILLS, 1))  # events, after which the process is killed wherever it is
        while process.poll() is None:
            seen = sum(len(p.read_bytes().splitlines()) for p in tmp_path.glob("journal-*"))
            if seen >= wanted:
                time.sleep(chance.uniform(0.0, 0.3))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        process.communicate()
        (path,) = tmp_path.glob("journal-*.jsonl")
        with open(path, "ab") as file:
            file.write(b'{"event": "fitted", "key": "to')  # a line that was cut short
    assert finish(start(tmp_path)) == said
    first, second = journal(whole), journal(tmp_path)
    assert first == second
    fitted = [e["key"] for e in second if e["event"] == "fitted" and e["kind"] != "prune"]
    assert len(fitted) == len(set(fitted)) == 6


def test_search_25_workers_change_nothing_and_need_no_guard(uninterrupted: tuple[Path, str], tmp_path: Path) -> None:
    """Number 19 of theory/interfaces.md, section 12."""
    whole, said = uninterrupted
    assert finish(start(tmp_path, workers=2)) == said
    assert journal(tmp_path) == journal(whole)


def test_dask_works(uninterrupted: tuple[Path, str], tmp_path: Path, calm: None) -> None:
    distributed = pytest.importorskip("distributed")
    environment = {"PYTHONPATH": str(ROOT), "COMPOSER_OPT": "-O1", "OMP_NUM_THREADS": "1"}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, env=environment) as cluster,
        distributed.Client(cluster) as client,
    ):
        data = planted(SMALL + ANGLES, count=15, noise=0.02)
        found = composer.search(data, VOCABULARY, max_parameters=14, budget=6, storage=tmp_path, executor=client.get_executor(), quiet=True)
    best = min((t for t in found.trials if not t.failed), key=lambda t: (t.criterion, t.key))
    assert f"{len(found.trials)} {best.key}\n" == uninterrupted[1]
    assert journal(tmp_path) == journal(uninterrupted[0])


def test_search_26_what_fails_is_told_and_the_run_goes_on(calm: None) -> None:
    words = [SMALL, LARGE, ANGLES, NotANumber(cutoff=4.0), Unbuildable(cutoff=4.0)]
    found = composer.search(planted(SMALL + ANGLES, count=15, noise=0.02), words, max_parameters=14, budget=5, quiet=True)
    assert {"Pair", "ThreeBody"} == {type(t).__name__ for t in found.best.expression.terms()}
    reasons = [t.reason for t in found.trials if t.failed]
    assert not any("Unbuildable" in str(t.expression) for t in found.trials) and all(
        "NotANumber" in str(t.expression) for t in found.trials if t.failed
    ), reasons


def test_search_26_a_start_that_gives_no_numbers_has_failed(calm: None) -> None:
    found = composer.search(planted(SMALL, noise=0.02), [SMALL], start=NotANumber(cutoff=4.0), max_parameters=14, budget=3, quiet=True)
    assert found.trials[0].failed and "finite" in found.trials[0].reason


def test_search_26_a_worker_that_dies_is_a_failed_trial() -> None:
    """Number 19 of theory/interfaces.md, section 12."""
    from composer.search.workers import Workers
    from tests.search.terms_that_fail import Lethal

    with Workers(2) as workers:
        results = list(workers.each(terms_of, [("SMALL",), ("LETHAL",), ("SMALL",)]))
    assert results[0] == results[2] == 1
    assert isinstance(results[1], composer.BackendError) and "died" in str(results[1])
    assert Lethal(cutoff=3.0).site is not None


def terms_of(name: str) -> int:
    """Asked of workers: look at the site scalar of a term."""
    from composer.model import Model

    Model({"SMALL": SMALL, "LETHAL": Lethal(cutoff=3.0)}[name], ["Si"])
    return 1


def test_a_full_disk_is_one_clear_error_and_loses_nothing(calm: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = planted(SMALL + ANGLES, count=15, noise=0.02)

    def run(storage: Path | None) -> composer.search.Search:  # type: ignore[name-defined]
        return composer.search(data, VOCABULARY, max_parameters=14, budget=6, storage=storage, quiet=True)

    write, count = os.write, [0]

    def full(file: int, text: bytes) -> int:
        count[0] += 1
        if count[0] == 6:
            write(file, bytes(text)[:20])  # a part finds room
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, text)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(composer.DataError, match="No space left.*same call again"):
        run(tmp_path)
    monkeypatch.setattr(os, "write", write)
    (path,) = tmp_path.glob("journal-*.jsonl")
    assert len(path.read_bytes().splitlines()) == 5
    assert sequence(run(tmp_path)) == sequence(run(None))


def test_bad_storage_and_bad_executors_are_refused(tmp_path: Path) -> None:
    data = planted(SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(composer.DataError, match="file"):
        composer.search(data, VOCABULARY, budget=1, storage=tmp_path / "file", quiet=True)
    with pytest.raises(composer.BackendError, match="executor"):
        composer.search(data, VOCABULARY, budget=1, executor="many", quiet=True)  # type: ignore[arg-type]
    first = Journal(tmp_path, "run", {})
    with pytest.raises(composer.DataError, match="Another process"):
        Journal(tmp_path, "run", {})
    first.close()


def test_workers_end_when_their_parent_is_killed() -> None:
    program = "import time\nfrom composer.search.workers import Workers\nwith Workers(1) as w:\n    print(*w.map(abs, [-7]), flush=True)\n    time.sleep(600)"
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "7\n"
    process.kill()
    assert process.communicate(timeout=60)[0] == ""  # the pipe closes when the last process that holds it has ended
