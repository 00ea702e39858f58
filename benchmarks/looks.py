"""Looks at test sets: only from a committed state, and every one is written down before it is shown."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOG = Path(__file__).with_name("test_looks.jsonl")


def commit() -> str:
    """Return the hash of the present commit, or "" where the working tree (the log of looks apart) differs from it."""
    if _git("status", "--porcelain", "--", ".", f":!{LOG.relative_to(ROOT)}"):
        return ""
    return _git("rev-parse", "HEAD").strip()


def committed() -> str:
    """Return the hash of the present commit. Errors: SystemExit where something is not committed."""
    found = commit()
    if not found:
        raise SystemExit(
            "A look at a test set was asked for. The working tree differs from its commit, so nobody could tell what was measured. "
            "Commit or stash every change, put outputs in a folder that git ignores (runs/), and repeat."
        )
    return found


def record(case: str, expression: str, commit: str, numbers: dict[str, Any]) -> dict[str, Any]:
    """Append one look to the log and return it."""
    look = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit, "set": case, "expression": expression, **numbers}
    with LOG.open("a") as log:
        log.write(json.dumps(look) + "\n")
    return look


def count(case: str) -> int:
    """Return how often the test set of a case has been looked at."""
    lines = LOG.read_text().splitlines() if LOG.exists() else []
    return sum(json.loads(line)["set"] == case for line in lines)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
