"""What a search spends beside fits: compiling, and ranking the neighbours of an expression. On molybdenum, with the default vocabulary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.sets import SETS
from benchmarks.timing import Row

TRIALS = 16
CASE = next(case for case in SETS if case.name == "Mo")
NAMES = "search on Mo: compiler seconds / refitted trial", "search on Mo: seconds to rank 300 candidates"
SCRIPT = """
import json, resource, sys
import composer
from benchmarks.sets import SETS
composer.set_threads(2)
train = next(case for case in SETS if case.name == "Mo").training()
found = composer.search(train, budget=int(sys.argv[1]), storage=sys.argv[2], quiet=True)
spent = resource.getrusage(resource.RUSAGE_CHILDREN)  # this process starts nothing but compilers
print(json.dumps([spent.ru_utime + spent.ru_stime, len(found.trials)]))
"""


def rows(only: str = "", repeats: int = 9) -> Iterator[Row]:
    """Measure both rows by one search from nothing (an empty cache), if the name of one contains `only`."""
    if not any(only.lower() in name.lower() for name in NAMES):
        return
    if CASE.missing:
        yield from (Row(name, None, None, None, "", CASE.missing) for name in NAMES)
        return
    with tempfile.TemporaryDirectory() as folder:
        compiling, trials = _searched(Path(folder))
        ranked = [e for e in _events(Path(folder)) if e["event"] == "ranked"]
    count, seconds = sum(e["count"] for e in ranked), sum(e["seconds"] for e in ranked)
    note = f"{trials} trials from an empty cache, one process with two threads"
    yield Row(NAMES[0], compiling / trials, None, 6.0, "s", f"processor seconds of the compiler; {note}")
    yield Row(NAMES[1], 300 * seconds / count, None, 60.0, "s", f"{count} candidates of {len(ranked)} expressions; {note}")


def _searched(folder: Path) -> tuple[float, int]:
    """Processor seconds of the compilers, and trials, of a search in a process of its own."""
    environment = {
        **os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "COMPOSER_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "2"
    }  # fmt: skip
    command = [sys.executable, "-c", SCRIPT, str(TRIALS), str(folder / "runs")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    spent, trials = json.loads(run.stdout.splitlines()[-1])
    return spent, trials


def _events(folder: Path) -> list[dict]:
    journal = next((folder / "runs").glob("journal-*.jsonl"))
    return [json.loads(line) for line in journal.read_text().splitlines()]
