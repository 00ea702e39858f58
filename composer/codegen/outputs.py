"""What a stage states: the roots that a schedule places in loops."""

from __future__ import annotations

from dataclasses import dataclass

from composer.ir.nodes import Node


@dataclass
class Output:
    """A root of a stage: kind "site" (stored for each site), "force" (axis), "near" (scattered to neighbours) or "parameter"."""

    kind: str
    node: Node
    name: str = ""
    axis: int = 0
    target: Node | None = None  # the parameter leaf whose adjoint this is


@dataclass
class Table:
    """Columns of a Jacobian as a sparse product: slot q has the entries first[q*S+s] .. of species s; each entry is a site weight times
    the three rows (x, y, z) of channel `columns[entry]`."""

    slots: list[tuple]  # parameter elements as the site sees them: (name, kinds, idx)
    first: list[int]
    columns: list[int]
    weights: list[Node]
    rows: list[tuple[Node, ...]]  # a row is the sum of these, each on the neighbours within its cutoff


__all__ = ["Output", "Table"]
