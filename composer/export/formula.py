"""A pair energy as a line of text in the grammar that Lepton reads (LAMMPS `pair_style lepton`, OpenMM): numbers written in, r the distance."""

from __future__ import annotations

from composer.errors import AlgebraError
from composer.export.shape import is_distance, pair_shape
from composer.ir.indices import Neighbor, Species, parse_index
from composer.ir.nodes import Node
from composer.ir.sums import bound_of
from composer.model import E0, Model
from composer.quantities import row

PLAIN = {"exp", "log", "sqrt", "sin", "cos", "tanh"}
LONGEST = 100_000  # characters
Places = dict[str, int]  # values of static indices, by key


def pair_formula(model: Model, a: int, b: int, distance: str = "r") -> str:
    """phi_ab(r) in eV, r in Å.

    Arguments: species numbers a and b; distance, what the distance is called. Returns: the formula, with common parts as definitions behind ";".
    Errors: AlgebraError when the model is no sum over pairs, or the formula would be too long.
    """
    pair_shape(model)
    writer = _Writer(model, distance)
    both = [writer.text(model.node, {"i": x, "j": y}) for x, y in ((a, b), (b, a))]
    main = f"{both[0]}+{both[1]}" if both[0] != both[1] else f"2*{both[0]}"
    text = "; ".join([main, *reversed(writer.definitions)])
    if len(text) > LONGEST:
        raise AlgebraError(
            f"The formula of {model.expression} was asked for", f"It has {len(text)} characters", 'Export to "table" or "lammps"'
        )
    return text


class _Writer:
    """Texts of nodes; what is used inside a function or more than once gets a name."""

    def __init__(self, model: Model, distance: str) -> None:
        self.model, self.distance = model, distance
        self.definitions: list[str] = []
        self.names: dict[tuple, str] = {}

    def text(self, node: Node, places: Places) -> str:
        """The value of a node for these species and static indices."""
        key = (node, tuple(sorted(places.items())))
        if key not in self.names:
            self.names[key] = self._short(self._write(node, places))
        return self.names[key]

    def _short(self, text: str) -> str:
        """The text itself if it is a name or a number, else a name for it."""
        if text.replace("_", "").isalnum() or _is_number(text):
            return text
        name = f"v{len(self.definitions)}"
        self.definitions.append(f"{name}={text}")
        return name

    def _write(self, node: Node, places: Places) -> str:
        if is_distance(node):
            return self.distance if node.op == "norm" else f"{self.distance}^2"
        args = node.args
        match node.op:
            case "const":
                return number(node.data[0])
            case "mark":
                return "1"
            case "param":
                return number(self._parameter(node, places))
            case "add":
                return "+".join(self.text(x, places) for x in args)
            case "mul":
                return "*".join(self.text(x, places) for x in args)
            case "pow":
                return _power(self.text(args[0], places), node.data[0])
            case "expm1":
                return f"exp({self.text(args[0], places)})-1"
            case "log1p":
                return f"log(1+{self.text(args[0], places)})"
            case "where":
                low, high, then, otherwise = (self.text(x, places) for x in args)
                return f"select(step({high}-{low}),{then},{otherwise})"
            case "stack":
                return self.text(args[places[node.data[0]]], places)
            case "at":
                return self._element(node, places)
            case "sum":
                return self._sum(node, places)
            case op if op in PLAIN:
                return f"{op}({self.text(args[0], places)})"
        raise AlgebraError(
            "The formula of a pair energy was asked for", f"A node of kind {node.op!r} cannot be written", 'Export to "table" or "lammps"'
        )

    def _element(self, node: Node, places: Places) -> str:
        index = parse_index(node.data[0])
        if isinstance(index, Species) and node.data[1] != places["j"]:
            return "0"  # no neighbour of that species
        return self.text(node.args[0], {**places, node.data[0]: node.data[1]})

    def _sum(self, node: Node, places: Places) -> str:
        """A sum over the one neighbour is its term up to its own cutoff; sums over static indices are written out."""
        choices: list[Places] = [places]
        cutoff = self.model.cutoff
        for index in sorted(bound_of(node), key=lambda i: i.key):
            if isinstance(index, Neighbor):
                cutoff = index.cutoff
                continue
            values = [places["j"]] if isinstance(index, Species) else range(index.size)
            choices = [{**c, index.key: v} for c in choices for v in values]
        text = "+".join(self.text(node.args[0], c) for c in choices)
        return text if cutoff == self.model.cutoff else f"select(step({number(cutoff)}-{self.distance}),{text},0)"

    def _parameter(self, node: Node, places: Places) -> float:
        name, kinds, idx = node.data
        if name == E0:
            return 0.0
        slot = self.model.layout.slots[name]
        atoms = [k if isinstance(k, int) else places["i" if k == "i" else "j"] for k in kinds]
        place = row(slot.per, len(self.model.species), *atoms)
        for size, i in zip(slot.shape, idx, strict=True):
            place = place * size + (i if isinstance(i, int) else places[i.key])
        return float(self.model.flat[slot.offset + place])


def _power(base: str, n: int) -> str:
    if n < 0:
        return f"1/{base}" if n == -1 else f"1/({base}^{-n})"
    return f"{base}^{n}"


def _is_number(text: str) -> bool:
    try:
        float(text.strip("()"))
    except ValueError:
        return False
    return True


def number(value: float) -> str:
    """A number with all its digits, in brackets if it is negative."""
    return repr(value) if value >= 0 else f"({value!r})"


__all__ = ["pair_formula"]
