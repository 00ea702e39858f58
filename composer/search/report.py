"""One self-contained HTML file about a search: the winner and its worth, pictures, errors, properties, and the history with reasons."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import analysis
from composer.errors import ComposerError
from composer.evaluate import evaluate
from composer.fisher import fisher
from composer.fit.weights import Weights
from composer.properties import properties
from composer.search.archive import Trial

if TYPE_CHECKING:
    from composer.search.result import Search

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; font-size: 13px; } td, th { padding: .2rem .6rem; border-bottom: 1px solid #eee; text-align: right; }
td.text, th.text { text-align: left; } tr.kept { background: #eef7ee; } pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: 12.5px; }
img { max-width: 100%; } .formula { font: 15px ui-monospace, monospace; background: #f6f6f6; padding: .6rem; overflow-wrap: anywhere; }
"""


def report(search: Search, path: str | Path = "report.html") -> Path:
    """Write the report of a search.

    Arguments: search; path of the file. Returns: the path. Errors: DataError where no trial may win.
    """
    trial, model = search.winner, search.best
    weights = Weights(**trial.weights)
    judged = fisher(model, search.study.data, weights)
    errors = evaluate(model, search.study.data)
    parts = [
        _winner(search, trial),
        _section("What each term is worth", f"<pre>{escape(judged.summary())}</pre>{_picture(judged.plot_terms())}"),
        _section("The front", _front(search)),
        _section("Fisher spectra", _picture(judged.plot())),
        _section("Parity", _picture(errors.plot())),
        _section("Errors on the data of the search, by kind", f"<pre>{escape(str(errors))}</pre>"),
        _section("Crystals", _crystals(model, search)),
        _section("History", _history(search.trials)),
        _section("How to repeat it", f"<pre>{escape(_call(search))}</pre>"),
    ]
    page = f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>composer search</title><style>{STYLE}</style></head>"
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page + "<body><h1>composer search</h1>" + "\n".join(parts) + "</body></html>\n", encoding="utf-8")
    return target


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}"


def _picture(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"


def _winner(search: Search, trial: Trial) -> str:
    facts = (
        f"P = {trial.parameters} fitted numbers; held out by group: energy {trial.energy:.3g} meV/atom, forces {trial.forces:.3g} eV/Å; "
        f"{trial.cost:.3g} operations for each atom and step. {len(search.trials)} trials, {search.ranked} neighbours ranked, {search.stopped}. "
        f"Rank correlation of predicted and realised gains: {search.spearman:.2f}."
    )
    checks = {"full": "passed the full checks", "short": "passed short checks", "": "was not yet checked"}[trial.checked]
    return f"<div class='formula'>E = E0 + {escape(str(trial.expression))}</div><p>{escape(facts)} Its dynamics {checks}.</p>"


def _front(search: Search) -> str:
    front = sorted(search.pareto, key=lambda t: t.parameters)
    if not front:
        return "<p>No trial is on the front.</p>"
    figure = analysis.plot_pareto(
        [t.parameters for t in front], [t.forces for t in front], labels=[str(t.number) for t in front], colors=[t.energy for t in front]
    )
    columns = ("trial", "P", "E meV/atom", "F eV/Å", "operations", "expression")
    rows = [(t.number, t.parameters, f"{t.energy:.4g}", f"{t.forces:.4g}", f"{t.cost:.3g}", str(t.expression)) for t in front]
    return _picture(figure) + _table(columns, rows)


def _crystals(model: Any, search: Search) -> str:
    try:
        return f"<pre>{escape(str(properties(model, search.study.data, model.covariance_root)))}</pre>"
    except ComposerError as error:
        return f"<p>{escape(str(error))}</p>"


def _history(trials: Iterable[Trial]) -> str:
    columns = ("trial", "move", "P", "E meV/atom", "F eV/Å", "predicted", "realised", "what was tried", "outcome")
    rows = [
        (
            t.number,
            t.kind,
            t.parameters,
            *(f"{v:.4g}" for v in (t.energy, t.forces)),
            *("" if v is None else f"{v:.3f}" for v in (t.predicted, t.realised)),
            t.text or str(t.expression),
            t.reason or ("kept" if t.accepted else "no gain"),
        )
        for t in trials
    ]
    return _table(columns, rows, [t.accepted for t in trials])


def _table(columns: Iterable[str], rows: Iterable[tuple], kept: Iterable[bool] | None = None) -> str:
    marks = list(kept) if kept is not None else None
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    lines = []
    for number, row in enumerate(rows):
        cells = "".join(f"<td{_class(value)}>{escape(str(value))}</td>" for value in row)
        lines.append(f"<tr{' class=kept' if marks and marks[number] else ''}>{cells}</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _class(value: Any) -> str:
    return " class=text" if isinstance(value, str) and not value.replace(".", "").replace("-", "").replace("e", "").isdigit() else ""


def _call(search: Search) -> str:
    given = ", ".join(f"{n}={v!r}" for n, v in search.settings.data().items() if n not in ("vocabulary", "start"))
    return f"composer.search(data, {given})\ndata: {len(search.study.data)} frames, hash {search.study.data.hash}"
