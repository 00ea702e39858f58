"""The walls of the house, read from the source text: floors, symbolic floors without torch, nameless kernels, no foreign code.

Packages that do not exist yet are not looked at; what exists is.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("composer", "terms", "analysis")
SYMBOLIC = ("composer.errors", "composer.units", "composer.ir", "composer.algebra", "composer.quantities", "composer.transforms", "terms")
NAMELESS = ("composer.ir", "composer.codegen", "composer.runtime")
CODE_IN_FILES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
LONGEST_TERM = 100  # lines


def linter() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]


def contract(name: str) -> dict:
    return next(c for c in linter()["contracts"] if c["id"] == name)


def floors() -> list[set[str]]:
    """The floors of composer from the highest to the lowest, as the import contract states them."""
    return [{f"composer.{module.strip('() ')}" for module in re.split("[:|]", layer)} for layer in contract("floors")["layers"]]


def exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(*modules: str) -> Iterator[tuple[Path, str, ast.Module]]:
    """Every Python file of the modules: path, dotted name, tree."""
    for module in modules:
        place = ROOT.joinpath(*module.split("."))
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        for path in filter(Path.exists, files):
            yield path, module_of(path), ast.parse(path.read_text(), str(path))


def imports(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a file imports, inside functions too; `from a import b` counts as a.b if that is a module."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (above, node.module)))
            for name in node.names:
                yield node.lineno, f"{source}.{name.name}" if exists(f"{source}.{name.name}") else source


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def floor_of(name: str) -> float | None:
    """Number of the floor of a module of composer, 0 the highest (the command line), the face just below it; None outside."""
    if name == "composer":
        return 0.5
    return next((number for number, floor in enumerate(floors()) if any(within(name, module) for module in floor)), None)


def upward(module: str, imported: str) -> bool:
    """Whether a module of a floor imports from a higher one; the face itself may import all."""
    here, there = floor_of(module), floor_of(imported)
    return module != "composer" and here is not None and there is not None and there < here


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of string constants that are not docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    blocks = [node.body for node in ast.walk(tree) if isinstance(node, documented)]
    docs = {id(body[0].value) for body in blocks if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every name that the code uses or defines."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "name", "arg", "asname"):
            text = getattr(node, field, None)
            if isinstance(text, str):
                yield getattr(node, "lineno", 0), text


def term_classes() -> list[tuple[Path, ast.ClassDef]]:
    """The classes of `terms` that derive from Term."""
    classes = [(path, node) for path, _, tree in sources("terms") for node in tree.body if isinstance(node, ast.ClassDef)]
    return [(path, node) for path, node in classes if any(ast.unparse(base).split(".")[-1] == "Term" for base in node.bases)]


def spellings(name: str) -> set[str]:
    """A term's name as a class and, where that is no plain word of the field, as a function: StillingerWeber, stillinger_weber."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", name)
    return {name} | ({"_".join(words).lower()} if len(words) > 1 else set())


def report(broken: list[str], rule: str) -> None:
    assert not broken, rule + "\n  " + "\n  ".join(broken)


def exceptions() -> set[str]:
    """The upward imports that the contract states: what a model offers as methods, imported when they are called."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return set(next(c for c in contracts if c.get("containers") == ["composer"]).get("ignore_imports", ()))


def test_imports_go_down_only() -> None:
    broken = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path, module, tree in sources("composer")
        for line, name in imports(path, tree)
        if upward(module, name) and f"{module} -> {'.'.join(name.split('.')[:2])}" not in exceptions()
    ]
    report(broken, "a module may import its own floor and the floors below it; the command line alone may import the face")


def test_every_module_of_composer_has_a_floor() -> None:
    placed = set().union(*floors())
    names = {module.split(".")[1] for _, module, _ in sources("composer") if "." in module}
    report(sorted(n for n in names if f"composer.{n}" not in placed), "give these a floor in [tool.importlinter] of pyproject.toml")


def test_analysis_imports_nothing_of_ours_and_composer_no_terms() -> None:
    closed = {"analysis": ("composer", "terms"), "composer": ("terms",)}
    broken = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for package, forbidden in closed.items()
        for path, module, tree in sources(package)
        for line, name in imports(path, tree)
        if module != "composer" and any(within(name, other) for other in forbidden)
    ]
    report(broken, "analysis stands alone, and only the face of composer may offer terms")


def test_the_face_offers_terms_lazily() -> None:
    face = ROOT / "composer" / "__init__.py"
    tree = ast.parse(face.read_text()) if face.exists() else ast.parse("")
    at_import = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    broken = [
        f"{face.name}:{line} imports {name}" for line, name in imports(face, at_import) if within(name, "terms") or within(name, "torch")
    ]
    report(broken, "import terms and torch inside functions of the face")


def test_symbolic_floors_name_no_torch() -> None:
    broken = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path, _, tree in sources(*SYMBOLIC)
        for line, name in imports(path, tree)
        if within(name, "torch")
    ]
    report(broken, "the symbolic floors import no torch")


def test_symbolic_floors_load_no_torch() -> None:
    modules = [module for _, module, _ in sources(*SYMBOLIC)] + ["composer"]
    program = f"import {', '.join(modules)}, sys; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_contract_names_every_symbolic_floor() -> None:
    named = set(contract("symbolic")["source_modules"])
    missing = [module for module in SYMBOLIC if exists(module) and module not in named]
    report(missing, "add these to source_modules of the contract 'symbolic' in pyproject.toml")


def test_the_contract_knows_every_package() -> None:
    missing = [package for package in OURS if exists(package) and package not in linter()["root_packages"]]
    report(missing, "add these to root_packages of [tool.importlinter] in pyproject.toml")


def test_no_name_of_a_term_in_the_compiler() -> None:
    names = set().union(*(spellings(node.name) for _, node in term_classes()))
    broken = []
    for path, _, tree in sources(*NAMELESS):
        words = [*identifiers(tree), *((line, word) for line, text in strings(tree) for word in re.findall(r"\w+", text))]
        broken += [f"{path.relative_to(ROOT)}:{line} says {word}" for line, word in words if word in names]
    report(broken, "the compiler knows no term")


def test_no_name_of_a_term_in_native_sources() -> None:
    names = set().union(*(spellings(node.name) for _, node in term_classes()))
    every = [path for pattern in ("*.cpp", "*.c", "*.h", "*.cu") for path in (ROOT / "composer").rglob(pattern)]
    files = [path for path in every if "lammps_plugin" not in path.parts]  # there, Pair is a class of LAMMPS
    broken = [f"{path.relative_to(ROOT)} says {word}" for path in files for word in set(re.findall(r"\w+", path.read_text())) & names]
    report(broken, "the compiler knows no term")


def test_terms_are_short() -> None:
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for _, node in term_classes()}
    report(
        [f"{name}: {lines} lines" for name, lines in lengths.items() if lines >= LONGEST_TERM],
        f"a term has fewer than {LONGEST_TERM} lines",
    )
    assert len(lengths) >= 5 or not exists("terms"), f"five unlike terms were promised, there are {sorted(lengths)}"


@pytest.mark.parametrize("package", OURS)
def test_no_code_from_text_or_files(package: str) -> None:
    broken = []
    for path, _, tree in sources(package):
        where = path.relative_to(ROOT)
        broken += [f"{where}:{line} imports {name}" for line, name in imports(path, tree) if name.split(".")[0] in CODE_IN_FILES]
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and runs_foreign_code(node)]
        broken += [f"{where}:{call.lineno} calls {ast.unparse(call.func)}" for call in calls]
    report(broken, "no eval, no exec, no pickle")


def runs_foreign_code(call: ast.Call) -> bool:
    """Whether a call is eval, exec, sympy's string parser (which calls eval), torch.load, or a load with allow_pickle=True."""
    name = ast.unparse(call.func)
    unpickles = any(k.arg == "allow_pickle" and getattr(k.value, "value", True) for k in call.keywords)
    foreign = {"eval", "exec", "builtins.eval", "builtins.exec", "torch.load"}
    return name in foreign or name.split(".")[-1] == "parse_expr" or unpickles


def test_24_headers_and_modules_of_lammps_stay_apart() -> None:
    """Number 24 of theory/interfaces.md, section 12: headers under the GPL in the folder of the plugin alone, no import when composer is imported."""
    plugin = ROOT / "composer" / "lammps_plugin"
    marks = ("LAMMPS_NS", '#include "pair.h"', '#include "atom.h"')
    suffixes = {".c", ".h", ".cpp", ".py"}
    files = [p for p in (ROOT / "composer").rglob("*") if p.suffix in suffixes and plugin not in p.parents]
    report(
        [str(p.relative_to(ROOT)) for p in files if any(m in p.read_text() for m in marks)],
        "LAMMPS headers belong to composer/lammps_plugin",
    )
    assert "GNU GENERAL PUBLIC LICENSE" in (plugin / "LICENSE").read_text()
    assert all("GPL-2.0-or-later" in p.read_text().splitlines()[0] for p in plugin.iterdir() if p.suffix in (".h", ".cpp"))
    broken = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, _, tree in sources("composer", "terms", "analysis")
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and any(within(n, "lammps") for n in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]))
    ]
    report(broken, "the Python package lammps is imported inside functions, when it is asked for")
