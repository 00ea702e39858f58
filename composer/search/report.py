"""One self-contained HTML file about a search: the winner, what it is worth, how it was found, and what did not help."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis import plot_pareto
from composer.data import Data
from composer.errors import ComposerError, DataError
from composer.evaluate import Errors, brief, evaluate, merge
from composer.fisher import fisher
from composer.fit.weights import Weights
from composer.model import Model
from composer.properties import Properties, properties
from composer.search.archive import Trial
from composer.search.trial import model_of
from composer.show import table

if TYPE_CHECKING:
    from composer.search.result import Search

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; font-size: 13px; margin: .6rem 0; } th, td { padding: .2rem .6rem; text-align: right; vertical-align: top; }
th { border-bottom: 1px solid #999; } td.t, th.t { text-align: left; } td.w { min-width: 15rem; } tr:nth-child(even) td { background: #f6f6f6; }
td.n, th { white-space: nowrap; }
pre { font-size: 13px; white-space: pre-wrap; } code { font-size: 13px; overflow-wrap: anywhere; } img { max-width: 100%; height: auto; } .wide { overflow-x: auto; } .note { color: #555; font-size: 13px; }
"""


def report(search: Search, path: str | Path = "report.html", crystals: Properties | None = None) -> Path:
    """Write the report of a search, where no trial may win about the best that was refused.

    Arguments: path; crystals, what `composer.properties` gave for the best model (None: it is asked).
    Errors: DataError where no trial was fitted, or the file cannot be written.
    """
    winner = search.refused or search.winner
    model = search.best if search.refused is None else search.model(winner)
    held_out = errors_held_out(search, winner)
    sections = [
        _winner(search, winner, model),
        _errors(winner, held_out),
        _part("What its terms are worth", lambda: _worth(search, winner, model)),
        _part("Crystals", lambda: _crystals(model, search.study.data, crystals)),
        _front(search),
        _history(search),
        _negative(search),
        _call(search),
    ]
    text = f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>composer search</title><style>{STYLE}</style></head><body>"
    text += "\n".join(sections) + "</body></html>\n"
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"The report {path} was to be written", f"It cannot: {error.strerror or error}", "Give another path") from error
    return Path(path)


def errors_held_out(search: Search, trial: Trial) -> tuple[str, Errors]:
    """Errors of every fold by the fit to the others (on all frames where the fit kept none), and which of the two they are."""
    study = search.study
    offset = float(trial.theta[-1]) if study.offset else 0.0
    if len(trial.theta_folds) != len(study.folds):
        return "of the frames fitted", evaluate(model_of(trial.expression, study, trial.theta), study.data, offset)
    parts = []
    for fold, theta in zip(study.folds, trial.theta_folds, strict=True):
        places = np.flatnonzero(study.fold == fold)
        shift = float(theta[-1]) if study.offset else 0.0
        parts.append((places.tolist(), evaluate(model_of(trial.expression, study, theta), study.data[places], shift)))
    return "held out by folds", merge(list(study.data), parts)


def _winner(search: Search, winner: Trial, model: Model) -> str:
    data, refused = search.study.data, winner.stable is False
    survived = {"full": "10 ps of NVE at 300 K and of NVT at 1000 K survived; repulsive", "short": "checked shortly"}
    weights = Weights(**winner.weights) if winner.weights else None
    rows = [
        ("fitted numbers P", f"{winner.parameters} (E0 included)"),
        ("held-out RMSE", winner.held_out),
        ("cost", f"{winner.cost:.3g} operations for each atom and step, counted at the density of the data"),
        ("weights", str(weights)),
        ("strength of the prior", f"{winner.strength:.1e}"),
        ("method", winner.method),
        ("dynamics", winner.reason if refused else survived.get(winner.checked, "not checked")),
        ("data", f"{data!r}, sha256 {data.hash[:16]}"),
    ]
    formula = f"<p><code>E = E0 + {escape(str(model.expression))}</code></p>"
    title = "No potential may win: the best one that was refused" if refused else "The best potential found"
    return f"<h1>{title}</h1>{formula}{_table(('', ''), rows, text=2)}<div class='wide'>{table(model.expression)}</div>"


def _errors(winner: Trial, found: tuple[str, Errors]) -> str:
    which, errors = found
    kinds, rows = np.array(errors.kinds), []
    for kind, scores in {"all": errors.scores, **errors.by_config_type}.items():
        places = np.flatnonzero((kinds == kind) | (kind == "all"))
        cells = []
        for o in ("energy", "forces", "stress"):
            spread = f" ± {_spread(errors, o, places):.2g}" if o in scores and len(places) > 1 and brief(scores[o].rmse) != "0" else ""
            cells += [brief(scores[o].rmse) + spread, brief(scores[o].mae), brief(scores[o].p95)] if o in scores else ["", "", ""]
        rows.append((kind, str(len(places)), *cells))
    head = ("config_type", "frames", *(f"{o} {n}" for o in ("E", "F", "S") for n in ("RMSE", "MAE", "95 %")))
    note = f"<p class='note'>Errors {which}: energy in meV/atom, forces in eV/Å, stress in GPa; ± one standard deviation by a bootstrap over frames.</p>"
    return f"<h2>Errors</h2>{note}<div class='wide'>{_table(head, rows, text=1)}</div>{_picture(errors.plot(), 'parity')}"


def _spread(errors: Errors, observable: str, places: NDArray[np.intp], draws: int = 400) -> float:
    """Standard deviation of an RMSE over some frames, by a bootstrap over them."""
    own = np.isin(errors.frame[observable], places)
    _, member = np.unique(errors.frame[observable][own], return_inverse=True)
    squares, counts = np.bincount(member, errors.error(observable)[own] ** 2), np.bincount(member)
    chosen = np.random.default_rng(0).integers(len(counts), size=(draws, len(counts)))
    return float(np.std(np.sqrt(squares[chosen].sum(1) / counts[chosen].sum(1))))


def _worth(search: Search, winner: Trial, model: Model) -> str:
    """What `composer.fisher` says of the model, with the weights of its fit."""
    weights = Weights(**winner.weights) if winner.weights else None
    found = fisher(model, search.study.data, weights)
    note = "<p class='note'><code>composer.fisher(model, data, weights).summary()</code> at the fitted numbers.</p>"
    pictures = _picture(found.plot(), "spectrum")
    if len(found.blocks) > 1:
        pictures += _picture(found.plot_terms(), "angles")
    return f"<pre>{escape(found.summary())}</pre>{note}{pictures}"


def _crystals(model: Model, data: Data, found: Properties | None) -> str:
    head, *rows = (properties(model, data) if found is None else found).cells()
    note = (
        "± one standard deviation of the fitted numbers; a phase that is not stable has none. In the data: the lowest frame of the phase."
    )
    return f"<div class='wide'>{_table(head, rows, text=1)}</div><p class='note'>{note}</p>"


def _front(search: Search) -> str:
    shown = [t for t in search.trials if not t.failed and t.parameters > len(search.study.species)]
    rows = [
        (str(t.number), str(t.parameters), f"{t.energy:.4g}", f"{t.forces:.4g}", f"{t.cost:.3g}", str(t.expression))
        for t in sorted(search.pareto, key=lambda t: (t.parameters, t.criterion))
    ]
    head = ("trial", "P", "E (meV/atom)", "F (eV/Å)", "operations", "expression")
    picture = ""
    if len(shown) > 1 and all(np.isfinite(t.energy) and np.isfinite(t.forces) for t in shown):
        picture = _picture(
            plot_pareto(
                [t.parameters for t in shown],
                [t.forces for t in shown],
                [str(t.number) for t in shown],
                colors=[max(t.energy, 1e-6) for t in shown],
            ),
            "front",
        )
    note = "<p class='note'>No other trial beats these in energy error, force error, numbers and operations at once; the line is drawn for forces.</p>"
    return f"<h2>The front</h2>{picture}{note}<div class='wide'>{_table(head, rows, text=1, last_text=True)}</div>"


def _history(search: Search) -> str:
    rows = []
    for t in search.trials:
        numbers = (f"{t.energy:.4g}", f"{t.forces:.4g}") if not t.failed else ("", "")
        changes = (_signed(t.predicted), _signed(t.realised))
        rows.append(
            (
                str(t.number),
                str(_number(search, t.parent)),
                t.kind,
                str(t.parameters or ""),
                *numbers,
                *changes,
                t.reason,
                t.text or str(t.expression),
            )
        )
    head = ("trial", "from", "move", "P", "E", "F", "predicted", "realised", "reason", "what")
    told = f"{search.ranked} neighbours were ranked and {len(search.trials)} fitted; the search ended: {search.stopped}. "
    told += f"Rank correlation of predicted and realised changes of ln E + ln F: {search.spearman:.2f}."
    return f"<h2>How it was found</h2><p>{escape(told)}</p><div class='wide'>{_table(head, rows, text=3, last_text=True)}</div>"


def _negative(search: Search) -> str:
    lost = [t for t in search.trials if not t.accepted or t.stable is False]
    if not lost:
        return "<h2>What did not help</h2><p>Every fitted neighbour lowered the error at its size.</p>"
    kinds: dict[str, list[Trial]] = {}
    for t in lost:
        kinds.setdefault(
            "failed" if t.failed else "passed over for its dynamics" if t.stable is False else f"{t.kind}: no gain", []
        ).append(t)
    items = "".join(
        f"<li>{escape(k)}: {len(ts)} ({', '.join('trial ' + str(t.number) for t in ts)})</li>" for k, ts in sorted(kinds.items())
    )
    return f"<h2>What did not help</h2><ul>{items}</ul>"


def _call(search: Search) -> str:
    s = search.settings
    words = "".join(f"<li><code>{escape(str(w))}</code></li>" for w in sorted(s.vocabulary, key=str))
    given = f"composer.search(data, vocabulary, start={s.start}, weights={s.weights}, max_parameters={s.max_parameters}, max_cost={s.max_cost}, folds={s.folds}, seed={s.seed}, by={s.by!r})"
    return f"<h2>The call</h2><p><code>{escape(given)}</code></p><p class='note'>run {search.run}</p><details><summary>{len(s.vocabulary)} words</summary><ul>{words}</ul></details>"


def _number(search: Search, key: str) -> int | str:
    return next((t.number for t in search.trials if t.key == key), "")


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _part(title: str, made: Callable[[], str]) -> str:
    """A section; what cannot be computed is told instead."""
    try:
        body = made()
    except (ComposerError, ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        body = f"<p>Not available: {escape(str(error))}</p>"
    return f"<h2>{escape(title)}</h2>{body}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], text: int = 0, last_text: bool = False) -> str:
    """An HTML table; the first `text` columns, and the last two on request, are words."""

    def cells(row: Sequence[str], tag: str) -> str:
        left = [n < text or (last_text and n >= len(row) - 2) for n in range(len(row))]
        wide = [last_text and n >= len(row) - 2 and len(c) > 20 for n, c in enumerate(row)]
        return "".join(
            f"<{tag} class='t{' w' if w else ''}'>{escape(c)}</{tag}>" if t else f"<{tag} class='n'>{escape(c)}</{tag}>"
            for c, t, w in zip(row, left, wide, strict=True)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    top = f"<thead><tr>{cells(head, 'th')}</tr></thead>" if any(head) else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"


def _picture(figure: Figure, name: str) -> str:
    """A figure as an inline PNG."""
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=110)
    return f"<p><img alt='{escape(name)}' src='data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}'></p>"


__all__ = ["errors_held_out", "report"]
