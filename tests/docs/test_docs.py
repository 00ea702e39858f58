"""Every Python block of a tutorial runs, in order, in one namespace for each page; README and decisions are well formed."""

import ast
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"
TUTORIALS = sorted(DOCS.glob("tutorials/*.md"))
HOW_TO = [DOCS / "how-to" / name for name in ("nep.md", "long_range.md", "terms.md", "search.md", "uncertainty.md")]


def blocks(page: Path) -> list[tuple[int, str]]:
    """Line and text of the Python blocks of a page."""
    text = page.read_text()
    return [(text[: m.start(1)].count("\n"), m[1]) for m in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S)]


@pytest.mark.parametrize("page", [*TUTORIALS, *HOW_TO], ids=lambda p: p.stem)
def test_tutorial_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number 22 of theory/interfaces.md, section 12: what the pages tell a newcomer to type."""
    monkeypatch.chdir(tmp_path)
    found = blocks(page)
    assert len(found) >= (5 if page in TUTORIALS else 2)
    namespace: dict = {"__name__": "__tutorial__"}
    for line, text in found:
        exec(compile("\n" * line + text, str(page), "exec"), namespace)


def test_there_are_two_tutorials() -> None:
    assert [p.name[:2] for p in TUTORIALS] == ["00", "01"]


def test_the_script_of_the_readme_names_what_exists() -> None:
    import composer
    import terms

    (script,) = [text for _, text in blocks(README)]
    tree = ast.parse(script)
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "composer"}
    assert used >= {"read_data", "compile", "fit", "fisher", "search", "read_model"} and used <= set(composer.__all__)
    imported = [a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "terms" for a in n.names]
    assert imported and set(imported) <= set(terms.__all__)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda p: p.stem)
def test_pages_have_a_title_and_links_that_exist(page: Path) -> None:
    text = page.read_text()
    assert text.startswith("# ")
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", sorted(DOCS.glob("decisions/*.md")), ids=lambda p: p.stem)
def test_decisions_say_what_why_and_at_which_price(page: Path) -> None:
    text = page.read_text()
    assert all(f"**{word}" in text for word in ("Question", "Decision", "Why", "Price", "Instead"))
