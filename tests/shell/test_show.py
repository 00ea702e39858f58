"""Expressions for people: LaTeX, HTML, graph, drawing; the dump of programs."""

import io
from html.parser import HTMLParser

import networkx
import pytest
from matplotlib.mathtext import MathTextParser

from composer.model import Model
from composer.show import describe_parameter, draw, graph, html, latex
from terms import Density, Morse, Pair, ThreeBody
from tests.catalogue import CATALOGUE


@pytest.mark.parametrize("name", CATALOGUE)
def test_latex_can_be_set(name: str) -> None:
    text = latex(CATALOGUE[name][0])
    MathTextParser("agg").parse(text)
    assert all(type(t).__name__ in text for t in CATALOGUE[name][0].terms())


def test_latex_of_a_product() -> None:
    expr = 2 * Pair(cutoff=5.0) - ThreeBody(cutoff=4.0) * (1 + Density(cutoff=3.0).named("a_b$"))
    text = latex(expr)
    assert r"\left(1 +" in text and r"\mathrm{a\ b\ }" in text and "$" not in text[1:-1]
    assert expr._repr_latex_() == text


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data + "|"


def test_html_lists_terms_with_units_and_escapes_names() -> None:
    expr = Morse(cutoff=5.0).fix(width=1.4).freeze("length") + Pair(cutoff=4.0, n_max=7).named("<script>")
    cells = Cells()
    cells.feed(html(expr))
    assert "script" not in cells.tags and "<script>" in cells.text
    assert cells.tags.count("tr") == 3
    assert "depth in eV, per pair, positive" in cells.text and "fixed at 1.4" in cells.text and "frozen" in cells.text
    assert "coefficients[7] in eV, per pair" in cells.text
    assert html(expr) == expr._repr_html_()
    assert describe_parameter(Pair(cutoff=4.0), "coefficients") == "coefficients[10] in eV, per pair"


@pytest.mark.parametrize("name", ["script", "functions", "tied and untied"])
def test_graph_is_a_tree_with_ties(name: str) -> None:
    expr, _ = CATALOGUE[name]
    found = graph(expr)
    assert networkx.is_directed_acyclic_graph(found)
    assert {n for n, d in found.in_degree() if d == 0} == {expr.digest}
    leaves = {n for n, d in found.out_degree() if d == 0 and found.nodes[n]["kind"] == "term"}
    assert leaves == {t.digest for t in expr.terms()}


def test_drawing_has_a_box_for_each_node() -> None:
    expr, _ = CATALOGUE["tied and untied"]
    figure = draw(2.5 * expr**2)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    assert stream.getvalue().startswith(b"\x89PNG")
    boxes = [t.get_text() for t in figure.axes[0].texts if t.get_fontsize() == 9]
    assert len(boxes) == len(graph(2.5 * expr**2)) and "Pair b\n4 Å" in boxes and "^2" in [t.get_text() for t in figure.axes[0].texts]


@pytest.mark.parametrize("kind", ["forces", "gradient", "tangent", "columns"])
def test_dump_says_outputs_and_loops(kind: str) -> None:
    text = Model(CATALOGUE["bond order in a product"][0], ["C", "Si"]).dump(kind)
    assert text.startswith("stage 0") and "Scale" in text or kind == "columns"
    if kind != "columns":
        assert "loops" in text and "over j@" in text and ", k@" in text
    else:
        assert "columns of a Jacobian" in text


def test_dump_of_stages() -> None:
    text = Model(CATALOGUE["Bond"][0], ["Si"]).dump()
    assert "stage 1" in text and "read at neighbours by later stages: field" in text
