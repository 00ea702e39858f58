"""The autograd seam: a model inside torch, differentiable once by positions, cells and parameters, in reverse or forward mode.

Kernels stand behind opaque operators without derivatives of their own; `torch.autograd.Function` says which kernel states which
derivative. An operator with `register_autograd` would not do: torch.func.jvp of it is zero without a word.

    evaluate   (x, h, p) -> e, F = -d(sum e)/dx, G = -d(sum e)/dh                energies of atoms, forces on all sites, pulls on cells
    gradient   d/d(x, h, p) of sum_i seed_i e_i + w . d(sum e)/dx + v . d/dh     reverse mode
    tangent    de, dF and dG along (dx, dh, dp)                                  forward mode

Cells h at fixed sites matter to global operations alone; without one G is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from composer.errors import AlgebraError
from composer.model.placed import Placed
from composer.neighbors import Batch, differentiable_positions
from composer.opaque import apart, last, one_by_one, or_zeros

if TYPE_CHECKING:
    from composer.model import Model


class Outputs(NamedTuple):
    """What `call` gives for S structures and N atoms."""

    energy: Tensor  # eV [S]
    forces: Tensor  # eV/Å [N, 3]
    virial: Tensor  # eV [S, 3, 3], -dE/dstrain = -V stress
    energies: Tensor  # eV [N], of the sites


def call(model: Model, batch: Batch, positions: Tensor, cells: Tensor, parameters: Mapping[str, Tensor] | Tensor | None = None) -> Outputs:
    """Energy, forces, virial and site energies as differentiable functions: E(x, h, theta), F = -dE/dx, W = -dE/dstrain.

    Arguments: model; batch, from `model.prepare`, whose neighbour list (with its skin) has to hold at the positions; positions [N, 3] and
    cells [S, 3, 3] in Å; parameters, tables by name as in `model.parameters` (those left out keep their numbers), or the flat vector of
    the free ones [P], or None for the numbers of the model.
    Returns: Outputs. Losses on all of them have gradients (one reverse pass gives a Hessian-vector product and the gradient of a force
    loss), tangents by torch.func.jvp, and Jacobians by jacrev, jacfwd and vmap of both.
    Errors: AlgebraError for an unknown name, and when a second derivative of the outputs is asked for.
    """
    placed = _placed(model, batch)
    x, h = positions.to(torch.float64), cells.to(torch.float64)
    if model.places_images:
        x = differentiable_positions(placed.batch, x, h)  # [sites, 3]
    function = _Evaluate if torch.compiler.is_compiling() else _EvaluateBothWays
    energies, pulls, cell_pulls = function.apply(x, h, _flat(model, parameters, placed.free), placed.number)
    atoms, home = batch.atoms, placed.home
    forces = pulls[:atoms].index_add(0, placed.owner, pulls[atoms:])  # what ghosts receive belongs to their owners
    by_cells = h.transpose(1, 2) @ cell_pulls
    if batch.structures == 1:
        return Outputs(energies.sum(0, keepdim=True), forces, (x.T @ pulls)[None] + by_cells, energies)
    energy = energies.new_zeros(batch.structures).index_add(0, home[:atoms], energies)
    virial = pulls.new_zeros(batch.structures, 3, 3).index_add(0, home, x[:, :, None] * pulls[:, None, :])
    return Outputs(energy, forces, virial + by_cells, energies)


def _flat(model: Model, parameters: Mapping[str, Tensor] | Tensor | None, free: Tensor) -> Tensor:
    """All numbers of the model in one vector, with derivatives by those that are given; `free` [P] says where those of theta stand."""
    flat = model.flat_there
    if parameters is None:
        return flat
    if isinstance(parameters, Tensor):
        return flat.index_put((free,), parameters.to(flat))
    names = [entry.name for entry in model.entries]
    unknown = [name for name in parameters if name not in names]
    if unknown:
        raise AlgebraError(
            f"A model was called with the parameters {', '.join(unknown)}", f"It has {', '.join(names)}", "Use names of model.parameters"
        )
    slots = [model.layout.slots[entry.key] for entry in model.entries]
    own = flat.split([slot.size for slot in slots] + [model.layout.size - sum(slot.size for slot in slots)])  # last: known numbers
    given = [parameters[n].to(flat).reshape(-1) if n in parameters else o for n, o in zip(names, own, strict=False)]
    return torch.cat([*given, own[-1]])


# ---- kernels of a model on a batch ------------------------------------------------------------------------------------------------


@torch.compiler.assume_constant_result
def _placed(model: Model, batch: Batch) -> Placed:
    family = ("autograd", id(model._kernels))  # of models that share their kernels, which what is kept keeps alive
    if family not in batch.kept:
        batch.kept[family] = apart(lambda: model.placed(batch), batch.positions.device)  # elsewhere, what is kept is plain tensors
    return batch.kept[family]


def _at(number: int) -> Placed:
    return Placed.known[number]


# ---- opaque operators --------------------------------------------------------------------------------------------------------------


@torch.library.custom_op("composer::evaluate", mutates_args=())
def _evaluate(x: Tensor, h: Tensor, p: Tensor, kernels: int) -> tuple[Tensor, Tensor, Tensor]:
    return _at(kernels).evaluate(*_dense(x, h, p))


@torch.library.custom_op("composer::gradient", mutates_args=())
def _gradient(
    x: Tensor, h: Tensor, p: Tensor, seed: Tensor, w: Tensor, v: Tensor, kernels: int, by_x: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _at(kernels).gradient(*_dense(x, h, p, seed, w, v), by_x=by_x)


@torch.library.custom_op("composer::tangent", mutates_args=())
def _tangent(x: Tensor, h: Tensor, p: Tensor, dx: Tensor, dh: Tensor, dp: Tensor, kernels: int) -> tuple[Tensor, Tensor, Tensor]:
    return _at(kernels).tangent(*_dense(x, h, p, dx, dh, dp))


def _dense(*tensors: Tensor) -> list[Tensor]:
    return [t.contiguous() for t in tensors]


@_evaluate.register_fake
def _(x: Tensor, h: Tensor, p: Tensor, kernels: int) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(_at(kernels).batch.atoms), torch.empty_like(x), torch.empty_like(h)


@_gradient.register_fake
def _(x: Tensor, h: Tensor, p: Tensor, seed: Tensor, w: Tensor, v: Tensor, kernels: int, by_x: bool) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(h), torch.empty_like(p)


@_tangent.register_fake
def _(x: Tensor, h: Tensor, p: Tensor, dx: Tensor, dh: Tensor, dp: Tensor, kernels: int) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(_at(kernels).batch.atoms), torch.empty_like(x), torch.empty_like(h)


for _operator in (_evaluate, _gradient, _tangent):
    _operator.register_vmap(one_by_one(_operator))


# ---- derivatives -------------------------------------------------------------------------------------------------------------------


class _Evaluate(torch.autograd.Function):
    """(x, h, p) -> e, F, G with reverse mode; all that torch.compile can follow (forward mode is an error there)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, h: Tensor, p: Tensor, kernels: int) -> Any:
        return _evaluate(x, h, p, kernels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        x, h, p, ctx.kernels = inputs
        ctx.save_for_backward(x, h, p)
        ctx.save_for_forward(x, h, p)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        function = _gradient if torch.compiler.is_compiling() else _Gradient.apply
        by_place = any(ctx.needs_input_grad[:2])
        return *function(*ctx.saved_tensors, slopes[0], -slopes[1], -slopes[2], ctx.kernels, by_place), None  # F = -dE/dx, G = -dE/dh


class _EvaluateBothWays(_Evaluate):
    """(x, h, p) -> e, F, G with reverse and forward mode."""

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dh: Tensor | None, dp: Tensor | None, _: None) -> Any:  # type: ignore[override]
        given = zip((dx, dh, dp), ctx.saved_tensors, strict=True)
        return _Tangent.apply(*ctx.saved_tensors, *(or_zeros(d, at) for d, at in given), ctx.kernels)


def _refusal() -> AlgebraError:
    return AlgebraError(
        "A derivative of order 2 of the outputs of a model was asked for",
        "Derivatives of order 1 of energies, forces and virials are provided",
        "Use the forces and the virial that call returns instead of differentiating the energy yourself",
    )


_Last = last(_refusal)


class _Gradient(_Last):
    @staticmethod
    def forward(x: Tensor, h: Tensor, p: Tensor, seed: Tensor, w: Tensor, v: Tensor, kernels: int, by_x: bool) -> Any:
        return _gradient(x, h, p, seed, w, v, kernels, by_x)


class _Tangent(_Last):
    @staticmethod
    def forward(x: Tensor, h: Tensor, p: Tensor, dx: Tensor, dh: Tensor, dp: Tensor, kernels: int) -> Any:
        return _tangent(x, h, p, dx, dh, dp, kernels)


# ---- torch modules -----------------------------------------------------------------------------------------------------------------


class Module(nn.Module):
    """A model whose tables are torch parameters, for torch optimisers; `model()` gives the model with the present numbers."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        for entry in model.entries:
            *path, last = entry.name.split(".")
            table = model.parameters[entry.name]
            _place(self, path)._parameters[last] = nn.Parameter(table, requires_grad=entry.free)

    def forward(self, batch: Batch, positions: Tensor | None = None, cells: Tensor | None = None) -> Outputs:
        """Outputs on a batch; positions [N, 3] and cells [S, 3, 3] in Å are those of the batch by default. See `call`."""
        x, h = (batch.positions if positions is None else positions), (batch.cells if cells is None else cells)
        return call(self._model, batch, x, h, dict(self.named_parameters()))

    def model(self) -> Model:
        """The model with the present numbers."""
        return self._model.with_parameters({name: table.detach() for name, table in self.named_parameters()})


def as_module(model: Model) -> Module:
    """A torch module of the model: one Parameter for each table, under its name (frozen ones take no gradient)."""
    return Module(model)


def _place(module: nn.Module, path: list[str]) -> nn.Module:
    """The submodule at a path, made if need be; tables of terms may bear any name, so they bypass torch's reserved ones."""
    for name in path:
        module = module._modules.setdefault(name, nn.Module())  # type: ignore[assignment]
    return module


__all__ = ["Module", "Outputs", "as_module", "call"]
