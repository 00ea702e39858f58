"""The flat parameter array: where each parameter stands and which row the species choose."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from composer.ir.indices import Species
from composer.quantities import rows


@dataclass(frozen=True)
class Slot:
    """One parameter in the flat array: `rows` x `shape` numbers from `offset` on."""

    name: str
    offset: int
    per: str
    rows: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.rows * prod(self.shape)


class Layout:
    """Offsets of all parameters of a program for a number of species."""

    def __init__(self, parameters: list[tuple[str, str, tuple[int, ...]]], species: int) -> None:
        self.species = species
        self.slots: dict[str, Slot] = {}
        offset = 0
        for name, per, shape in parameters:
            slot = Slot(name, offset, per, rows(per, species), shape)
            self.slots[name] = slot
            offset += slot.size
        self.size = offset

    def text(self, name: str, kinds: tuple, idx: tuple, species: dict[str, str], ranges: dict[str, str]) -> str:
        """The C index of an element; `species` and `ranges` name the loop variables."""
        slot = self.slots[name]
        atoms = [species["i"] if k == "i" else species[k.slot] if isinstance(k, Species) else str(k) for k in kinds]
        index = _row_text(slot.per, atoms, self.species)
        for size, i in zip(slot.shape, idx, strict=True):
            index = f"({index})*{size} + {i if isinstance(i, int) else ranges[i.key]}"
        return f"{slot.offset} + {index}"


def _row_text(per: str, atoms: list[str], species: int) -> str:
    if species == 1 or per == "model":
        return "0"
    match per:
        case "species":
            return atoms[0]
        case "pair":
            return f"PAIR[{atoms[0]}*{species}+{atoms[1]}]"
        case "ordered pair":
            return f"{atoms[0]}*{species}+{atoms[1]}"
        case "triplet":
            return f"{atoms[0]}*{rows('pair', species)}+PAIR[{atoms[1]}*{species}+{atoms[2]}]"
    if per == "unlike triplet":
        b, c = atoms[1:]
        low = str(min(int(b), int(c))) if b.isdigit() and c.isdigit() else f"({b} < {c} ? {b} : {c})"
        return f"{atoms[0]}*{rows('pair', species) - species}+PAIR[{b}*{species}+{c}]-{low}-1"
    return f"({atoms[0]}*{species}+{atoms[1]})*{species}+{atoms[2]}"
