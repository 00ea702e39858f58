"""Indices of the language: neighbours of a site, their species, and static ranges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from composer.errors import AlgebraError


@dataclass(frozen=True)
class Neighbor:
    """A neighbour of the site within `cutoff` (Å); `slot` is "j" for the outer neighbour and "k" for a second one."""

    cutoff: float
    slot: str = "j"

    @cached_property
    def key(self) -> str:
        return f"{self.slot}@{self.cutoff!r}"


@dataclass(frozen=True)
class Species:
    """The species of the neighbour in `slot`, a range over the `size` species of the model."""

    slot: str
    size: int

    @property
    def key(self) -> str:
        return f"species {self.slot}:{self.size}"


@dataclass(frozen=True)
class Range:
    """A static range 0 .. size-1 (a radial channel, an angular component, a neuron)."""

    name: str
    size: int

    @property
    def key(self) -> str:
        return f"{self.name}:{self.size}"


Index = Neighbor | Species | Range

# A sum over two neighbours carries how k is tied to j: any other one, each unordered pair once (k before j), or its mirror image.
MIRROR = {"": "", "ne": "ne", "lt": "gt", "gt": "lt"}


def neighbors(free: frozenset[Index]) -> tuple[Neighbor, ...]:
    """The neighbour indices of a set, outer one first."""
    return tuple(sorted((i for i in free if isinstance(i, Neighbor)), key=lambda i: i.key))


def ranges(free: frozenset[Index]) -> tuple[Range | Species, ...]:
    """The static indices of a set in a fixed order; species of a looped neighbour come along with that neighbour."""
    slots = {i.slot for i in free if isinstance(i, Neighbor)}
    static = [i for i in free if isinstance(i, Range) or (isinstance(i, Species) and i.slot not in slots)]
    return tuple(sorted(static, key=lambda i: (isinstance(i, Range), i.key)))


def parse_index(key: str) -> Index:
    """The index of a key."""
    if "@" in key:
        slot, cutoff = key.split("@")
        return Neighbor(float(cutoff), slot)
    if ":" in key:
        name, size = key.rsplit(":", 1)
        return Species(name[-1], int(size)) if name.startswith("species ") else Range(name, int(size))
    raise AlgebraError(f"An index of a program was asked for. Found the key {key!r}. Use a key made by an index.")
