"""What the values of a stage are called in its text: numbers, site arrays, rows of neighbours, tables of the site."""

from __future__ import annotations

from collections.abc import Callable

from composer.codegen.layout import Layout
from composer.codegen.places import flat, size_of
from composer.codegen.printer import number
from composer.codegen.recompute import DEAR
from composer.codegen.schedule import Nest, Schedule
from composer.ir.indices import Species, neighbors
from composer.ir.nodes import Node

FEW = 8  # species for which values are kept ready


class Values:
    """The names of the values of a stage.

    `vectors`: the dialect has the types lanes8, lanes4 and lanes2, and arrays have room for them.
    `settled`: values on static ranges that are the same for all sites of a species, worked out once before the visits.
    Arguments: plan, its loop nests; layout of the parameters; site_arrays, names of all arrays on sites, in the order of the arguments.
    """

    vectors = False

    def __init__(self, plan: Schedule, layout: Layout, site_arrays: list[str]) -> None:
        self.plan, self.layout, self.site_arrays, self.species = plan, layout, site_arrays, layout.species
        self.names: dict[Node, str] = {}  # scalars of the site
        self.array_names: dict[Node, str] = {}
        self.near: dict[Node, str] = {}  # fields that are read at neighbours
        self.settled = {n for n in plan.stacks if self.vectors and n.op in DEAR and layout.species <= FEW and _of_species(n)}
        self._leaves()

    def _leaves(self) -> None:
        """Which tangents and fields of neighbours the gather has to bring."""
        self.needs_tangent = False
        seen: set[Node] = set()
        pending = [o.node for o in self.plan.outputs]
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            self.needs_tangent |= node.op == "d_t"
            if node.op == "near":
                self.near.setdefault(node.args[0], f"near{len(self.near)}")
            else:
                pending.extend(node.args)

    def resolve(self, nest: Nest | None, ranges: dict[str, str]) -> Callable[[Node], str | None]:
        """The function that names what is loaded in a nest (None: has to be computed)."""
        computed = set(nest.stores) if nest and not nest.ranges and len(nest.loops) == 1 else set()

        def look(node: Node) -> str | None:
            if node in computed:
                return None
            return self.load(node, ranges)

        return look

    def load(self, node: Node, ranges: dict[str, str]) -> str | None:
        """Where a value is found, None if nowhere; `ranges` says what static indices are called."""
        if node in self.names:
            return self.names[node]
        looped = neighbors(node.free)
        slot = looped[0].slot if len(looped) == 1 else ""
        match node.op:
            case "const":
                return number(node.data[0])
            case "mark":
                return "real(1)"
            case "d" | "d_t":
                return f"{'d' if node.op == 'd' else 'dt'}{node.data[1]}[{slot}]"
            case "param" | "param_t":
                name, kinds, idx = node.data
                named = self.with_species(ranges)
                atoms = {"i": "si", **{s: named[Species(s, self.species).key] for s in "jk"}}
                index = self.layout.text(name, kinds, idx, atoms, ranges)
                return f"{'P' if node.op == 'param' else 'PT'}[{index}]"
            case "site":
                return f"real({self.site_text(node.data[0])}[i])"
            case "near":
                return f"{self.near[node.args[0]]}[{slot}]"
            case "at":
                return self._load_element(node, ranges, slot)
        if len(looped) == 1:
            if node.op == "norm" and self.plan.geometry(node):
                return f"len[{slot}]"
            if node.op == "pow" and self.plan.geometry(node):
                return f"inv[{slot}]"
            row = self.plan.rows.get(node if slot == "j" else self.plan.canonical(node))
            if row is not None:
                return f"ROW({row})[{slot}]"
            if node in self.plan.array_rows:
                first, static = self.plan.array_rows[node]
                return f"ROW({first} + {flat(static, ranges)})[{slot}]"
        if node in self.plan.arrays:
            return self.element(node, self.with_species(ranges))
        return None

    def element(self, node: Node, names: dict[str, str]) -> str:
        """One element of a value that is kept as an array of the site."""
        row = f"si*{self.places(node)} + " if node in self.settled else ""
        return f"{self.array_names[node]}[{row}{flat(self.plan.arrays[node], names, self.vectors)}]"

    def clear(self, node: Node) -> str:
        """An array of the site is set to zero."""
        return f"for (int q = 0; q < {self.places(node)}; ++q) {self.array_names[node]}[q] = 0;"

    def arrays(self) -> list[str]:
        """Declarations of the arrays of the site."""
        return [
            f"real {text}[{self.places(node) * (self.species if node in self.settled else 1)}];" for node, text in self.array_names.items()
        ]

    def places(self, node: Node) -> int:
        """Numbers of an array of the site."""
        return size_of(self.plan.arrays[node], self.vectors)

    def with_species(self, ranges: dict[str, str]) -> dict[str, str]:
        """Names of the static indices and of the species of the neighbours in the loops."""
        return {**{Species(s, self.species).key: f"s{s}" for s in "jk"}, **ranges}

    def site_text(self, name: str) -> str:
        return f"site{self.site_arrays.index(name)}"

    def _load_element(self, node: Node, ranges: dict[str, str], slot: str) -> str:
        fixed: dict[str, str] = {}
        root = self.plan.canonical(node) if slot == "k" else node
        while root.op == "at":
            fixed[root.data[0]] = str(root.data[1])
            root = root.args[0]
        if root in self.plan.array_rows:
            first, static = self.plan.array_rows[root]
            place = flat(static, {**ranges, **fixed})
            return f"ROW({first + int(place)})[{slot}]" if place.isdigit() else f"ROW({first} + {place})[{slot}]"
        return self.element(root, {**self.with_species(ranges), **fixed})


def _of_species(root: Node) -> bool:
    """Whether a value is the same for all sites of a species."""
    pending = [root]
    while pending:
        node = pending.pop()
        if (
            node.op == "param"
            and any(isinstance(k, Species) for k in node.data[1])
            or node.op not in ("param", "add", "mul", "const", *DEAR)
        ):
            return False
        pending.extend(node.args)
    return True


__all__ = ["Values"]
