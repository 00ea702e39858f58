"""Expressions for people: LaTeX, a table in HTML, a graph and its drawing."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import TYPE_CHECKING, Any

from composer.algebra import Constant, Expression, Function, Product, Sum, Term

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from networkx import DiGraph

FILL = {"term": "#d7e6f4", "sum": "#f4e3d0", "product": "#d9eedd", "function": "#ece0f2", "constant": "#eeeeee"}
MEANING = {"exp": r"\mathrm{expm1}(#)", "sqrt": r"\sqrt{#}", "tanh": r"\tanh(#)", "log1p": r"\ln(1+#)"}


def latex(expr: Expression) -> str:
    """The site energy of an expression as LaTeX: terms by name, with cutoffs above and own names below."""
    return f"$E_i = E_0 + {_latex(expr)}$"


def _latex(expr: Expression) -> str:
    match expr:
        case Sum():
            parts = [(f, _latex_part(abs(f), p)) for f, p in expr.parts]
            text = " ".join(f"{'-' if f < 0 else '+'} {body}" for f, body in parts)
            return text.removeprefix("+ ")
        case Product():
            return r" \, ".join(_bracketed(b) + (f"^{{{n}}}" if n > 1 else "") for b, n in expr.factors)
        case Function():
            return MEANING[expr.function].replace("#", _latex(expr.argument))
        case Constant():
            return _number(expr.value)
        case Term():
            return _latex_term(expr)
    return rf"\mathrm{{{type(expr).__name__}}}"


def _latex_part(factor: float, part: Expression) -> str:
    if isinstance(part, Constant):
        return _number(factor * part.value)
    return _latex(part) if factor == 1.0 else rf"{_number(factor)} \, {_bracketed(part)}"


def _bracketed(part: Expression) -> str:
    """A factor: sums in round, powers of terms and functions in curly brackets."""
    text = _latex(part)
    if isinstance(part, Sum):
        return rf"\left({text}\right)"
    return "{" + text + "}"


def _latex_term(term: Term) -> str:
    cutoff = getattr(term, "cutoff", None)
    above = rf"^{{{cutoff:g}\,\mathrm{{Å}}}}" if isinstance(cutoff, float) else ""
    below = rf"_{{\mathrm{{{_letters(term.name)}}}}}" if term.name else ""
    return rf"\mathrm{{{type(term).__name__}}}{below}{above}"


def _letters(name: str) -> str:
    """A user's name with everything that LaTeX would read as a command taken out."""
    return "".join(c if c.isalnum() else r"\ " for c in name)


def _number(value: float) -> str:
    mantissa, _, exponent = f"{value:.6g}".partition("e")
    return mantissa + (rf"\cdot 10^{{{int(exponent)}}}" if exponent else "")


def html(expr: Expression) -> str:
    """The expression, and the table of its terms."""
    return f"<div><code>{escape(repr(expr))}</code>{table(expr)}</div>"


def table(expr: Expression) -> str:
    """A table of the terms of an expression in HTML: fields, parameters with shape, unit and kind, smoothness at the cutoff."""
    labels = expr.labels()
    rows = [_row(labels[t.digest], t, sum(t == other for other in expr.walk())) for t in expr.terms()]
    head = "".join(f"<th style='text-align:left'>{c}</th>" for c in ("term", "fields", "parameters", "smoothness", "uses"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(label: str, term: Term, uses: int) -> str:
    given = [(f.name, getattr(term, f.name)) for f in dataclasses.fields(term) if f.name not in ("name", "fixed")]
    fields = ", ".join(f"{name}={value!r}" for name, value in given if value is not None)
    parameters = [describe_parameter(term, name) for name in term.params()]
    kind = f" ({type(term).__name__})" if term.name else ""
    cells = [escape(label + kind), escape(fields), "<br>".join(map(escape, parameters)) or "none", str(term.smoothness), str(uses)]
    return "<tr>" + "".join(f"<td style='text-align:left;vertical-align:top'>{c}</td>" for c in cells) + "</tr>"


def describe_parameter(term: Term, name: str) -> str:
    """One parameter in words: name, shape, unit, which species choose it, how it is held."""
    param, fixed = term.params()[name], dict(term.fixed)
    shape = "×".join(str(getattr(term, s)) for s in param.shape)
    held = "" if name not in fixed else "frozen" if fixed[name] is None else f"fixed at {fixed[name]:g}"
    what = (f"{name}[{shape}]" if shape else name) + (f" in {param.unit}" if param.unit else "")
    return ", ".join(w for w in (what, f"per {param.per}", "positive" if param.positive else "", held) if w)


def graph(expr: Expression) -> DiGraph:
    """The expression as a networkx.DiGraph from the root down; an operand that is used twice is one node.

    Nodes are digests with `label` and `kind` (term, sum, product, function, constant); edges carry `weight`, the factor in a sum or the
    power in a product.
    """
    import networkx

    found = networkx.DiGraph()
    labels = expr.labels()
    for part in expr.walk():
        found.add_node(part.digest, label=_label(part, labels), kind=type(part).__name__.lower() if not isinstance(part, Term) else "term")
        for operand, weight in _weighted(part):
            found.add_edge(part.digest, operand.digest, weight=weight)
    return found


def _weighted(part: Expression) -> list[tuple[Expression, float]]:
    if isinstance(part, Sum):
        return [(p, f) for f, p in part.parts]
    return [(b, n) for b, n in part.factors] if isinstance(part, Product) else [(o, 1) for o in part.operands]


def _label(part: Expression, labels: dict[str, str]) -> str:
    match part:
        case Sum():
            return "+"
        case Product():
            return "×"
        case Function():
            return part.function
        case Constant():
            return repr(part)
    cutoff = getattr(part, "cutoff", None)
    name = getattr(part, "name", None)
    label = f"{type(part).__name__} {name}" if name else labels[part.digest]
    return label + (f"\n{cutoff:g} Å" if isinstance(cutoff, float) else "")


def draw(expr: Expression) -> Figure:
    """The graph of an expression as a picture: root on top, terms as leaves, factors and powers at the lines."""
    from matplotlib.figure import Figure

    found = graph(expr)
    places = _places(found, expr.digest)
    width, depth = max(x for x, _ in places.values()) + 1, 1 - min(y for _, y in places.values())
    figure = Figure(figsize=(max(4.0, 1.55 * width), max(2.2, 1.15 * depth)), layout="constrained", dpi=120)
    axes = figure.subplots()
    for above, below, edge in found.edges(data=True):
        (x, y), (u, v) = places[above], places[below]
        axes.plot([x, u], [y, v], color="0.6", linewidth=1.0, zorder=1)
        if edge["weight"] != 1:
            power = found.nodes[above]["kind"] == "product"
            text = f"^{edge['weight']}" if power else f"{edge['weight']:g}"
            axes.text(
                (x + u) / 2, (y + v) / 2, text, fontsize=8, ha="center", va="center", zorder=2, bbox={"fc": "white", "ec": "none", "pad": 1}
            )
    for key, (x, y) in places.items():
        node = found.nodes[key]
        shape = {"boxstyle": "round,pad=0.45", "fc": FILL[node["kind"]], "ec": "0.45", "lw": 0.8}
        axes.text(x, y, node["label"], fontsize=9, ha="center", va="center", zorder=3, bbox=shape)
    axes.set(xlim=(-0.6, width - 0.4), ylim=(0.5 - depth, 0.5))
    axes.set_axis_off()
    return figure


def _places(found: Any, root: str) -> dict[str, tuple[float, float]]:
    """Leaves side by side from left to right, every node above the middle of what it joins, as deep as its longest way."""
    depth: dict[str, int] = {}
    order: list[str] = []

    def visit(key: str, level: int) -> None:
        depth[key] = max(depth.get(key, 0), level)
        for below in found.successors(key):
            visit(below, level + 1)
        if key not in order:
            order.append(key)

    visit(root, 0)
    places: dict[str, tuple[float, float]] = {}
    leaves = 0
    for key in order:  # operands come first
        below = [places[b][0] for b in found.successors(key)]
        places[key] = (sum(below) / len(below) if below else float(leaves), -float(depth[key]))
        leaves += not below
    return _apart(places)


def _apart(places: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The same places with boxes of one level pushed to the right until none touches another."""
    moved: dict[str, tuple[float, float]] = {}
    last: dict[float, float] = {}
    for key, (x, y) in sorted(places.items(), key=lambda item: item[1]):
        last[y] = max(x, last.get(y, x - 1.0) + 0.85)
        moved[key] = (last[y], y)
    return moved
