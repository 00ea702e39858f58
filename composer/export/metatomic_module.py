"""The TorchScript side of target metatomic: neighbour lists of metatensor in, energies out. Annotations are read by TorchScript, as they stand."""

# pyright: reportMissingImports=false, reportMissingTypeStubs=false, reportCallIssue=false, reportAttributeAccessIssue=false
from typing import Dict, List, Optional, Tuple  # noqa: UP035  TorchScript knows these

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import ModelOutput, NeighborListOptions, System


class Potential(torch.nn.Module):
    """Site energies (eV) by a program of padded neighbours (d [n, m, 3] Å, species [n], owner [n, m], real [n, m]), for metatomic."""

    species: torch.Tensor

    def __init__(self, program: torch.nn.Module, numbers: List[int], cutoff: float) -> None:  # noqa: UP006
        super().__init__()
        self.program = program
        self.options = NeighborListOptions(cutoff=cutoff, full_list=True, strict=False)
        species = torch.full((max(numbers) + 1,), -1, dtype=torch.long)
        species[torch.tensor(numbers)] = torch.arange(len(numbers))
        self.register_buffer("species", species)  # [atomic number]

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        return [self.options]

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels] = None,  # noqa: UP045
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        results: Dict[str, TensorMap] = {}  # noqa: UP006
        if "energy" not in outputs:
            return results
        rows: List[torch.Tensor] = []  # noqa: UP006
        energies: List[torch.Tensor] = []  # noqa: UP006
        for number, system in enumerate(systems):
            found = self.site_energies(system)
            places = torch.arange(len(found), device=found.device)
            rows.append(torch.stack([torch.full_like(places, number), places], dim=1))
            energies.append(found)
        samples = Labels(["system", "atom"], torch.cat(rows).to(torch.int32))
        values = torch.cat(energies)
        if selected_atoms is not None:
            _, kept, _ = samples.intersection_and_mapping(selected_atoms)
            samples = Labels(["system", "atom"], samples.values[kept >= 0])
            values = values[kept >= 0]
        if outputs["energy"].sample_kind != "atom":
            total = torch.zeros(len(systems), dtype=values.dtype, device=values.device)
            values = total.index_add(0, samples.column("system").to(torch.long), values)
            samples = Labels(["system"], torch.arange(len(systems), dtype=torch.int32, device=values.device).reshape(-1, 1))
        one = torch.zeros((1, 1), dtype=torch.int32, device=values.device)
        nothing: List[Labels] = []  # noqa: UP006
        block = TensorBlock(values.reshape(-1, 1), samples, nothing, Labels(["energy"], one))
        results["energy"] = TensorMap(Labels(["_"], one), [block])
        return results

    def site_energies(self, system: System) -> torch.Tensor:
        """[n], eV."""
        pairs = system.get_neighbor_list(self.options)
        centre = pairs.samples.column("first_atom").to(torch.long)
        d, owner, real = self.padded(len(system), centre, pairs.samples.column("second_atom").to(torch.long), pairs.values.reshape(-1, 3))
        return self.program(d, self.species[system.types.to(torch.long)], owner, real)

    def padded(self, n: int, centre: torch.Tensor, other: torch.Tensor, d: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # noqa: UP006
        """Pairs [p] as rows of neighbours [n, m]."""
        order = torch.argsort(centre, stable=True)
        counts = torch.bincount(centre, minlength=n)
        first = counts.cumsum(0) - counts
        row = centre[order]
        place = torch.arange(len(centre), device=d.device) - first[row]
        m = 2 if len(centre) == 0 else max(int(counts.max()), 2)
        owner = torch.zeros((n, m), dtype=torch.long, device=d.device)
        real = torch.zeros((n, m), dtype=torch.bool, device=d.device)
        owner[row, place] = other[order]
        real[row, place] = torch.ones_like(row, dtype=torch.bool)
        rows = torch.zeros((n, m, 3), dtype=d.dtype, device=d.device).index_put((row, place), d[order])
        return rows, owner, real
