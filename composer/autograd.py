"""The autograd seam: a model inside torch, differentiable once by positions, cells and parameters, in reverse or forward mode.

Kernels stand behind opaque operators without derivatives of their own; `torch.autograd.Function` says which kernel states which
derivative. An operator with `register_autograd` would not do: torch.func.jvp of it is zero without a word.

    evaluate   (x, p) -> e, F = -d(sum e)/dx                       energies of atoms, forces on all sites
    gradient   d/d(x, p) of sum_i seed_i e_i + w . d(sum e)/dx     reverse mode
    tangent    de and dF along (dx, dp)                            forward mode
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from composer.errors import AlgebraError
from composer.model.structures import whole
from composer.neighbors import Batch, differentiable_positions

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
    kernels = _kernels(model, batch)
    x = differentiable_positions(kernels.batch, positions.to(torch.float64), cells.to(torch.float64))  # [sites, 3]
    function = _Evaluate if torch.compiler.is_compiling() else _EvaluateBothWays
    energies, pulls = function.apply(x, _flat(model, parameters, kernels.free), kernels.number)
    atoms, home = batch.atoms, kernels.home
    forces = pulls[:atoms].index_add(0, kernels.owner, pulls[atoms:])  # what ghosts receive belongs to their owners
    if batch.structures == 1:
        return Outputs(energies.sum(0, keepdim=True), forces, (x.T @ pulls)[None], energies)
    energy = energies.new_zeros(batch.structures).index_add(0, home[:atoms], energies)
    virial = pulls.new_zeros(batch.structures, 3, 3).index_add(0, home, x[:, :, None] * pulls[:, None, :])
    return Outputs(energy, forces, virial, energies)


def _flat(model: Model, parameters: Mapping[str, Tensor] | Tensor | None, free: Tensor) -> Tensor:
    """All numbers of the model in one vector, with derivatives by those that are given; `free` [P] says where those of theta stand."""
    if parameters is None:
        return model.flat
    if isinstance(parameters, Tensor):
        return model.flat.index_put((free,), parameters.to(torch.float64))
    names = [entry.name for entry in model.entries]
    unknown = [name for name in parameters if name not in names]
    if unknown:
        raise AlgebraError(
            f"A model was called with the parameters {', '.join(unknown)}", f"It has {', '.join(names)}", "Use names of model.parameters"
        )
    slots = [model.layout.slots[entry.key] for entry in model.entries]
    own = model.flat.split([slot.size for slot in slots] + [model.layout.size - sum(slot.size for slot in slots)])  # last: known numbers
    given = [parameters[n].to(torch.float64).reshape(-1) if n in parameters else o for n, o in zip(names, own, strict=False)]
    return torch.cat([*given, own[-1]])


# ---- kernels of a model on a batch ------------------------------------------------------------------------------------------------


class _Kernels:
    """A model and a batch with full neighbour rows, known to the operators by a number as long as both are in use."""

    known: weakref.WeakValueDictionary[int, _Kernels] = weakref.WeakValueDictionary()
    numbers = itertools.count()

    def __init__(self, model: Model, batch: Batch) -> None:
        self.kernel, self.number = model.kernel, next(self.numbers)
        self.batch = whole(batch)
        sizes, ghosts = self.batch.offsets.diff(), self.batch.ghost_offsets.diff()
        structures = torch.arange(batch.structures)
        self.home = torch.cat([structures.repeat_interleave(sizes), structures.repeat_interleave(ghosts)])  # [sites]
        self.owner = self.batch.ghost_owner.long()  # [ghosts]
        self.free = model.free.nonzero().flatten()  # [P]
        self.known[self.number] = self

    def evaluate(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        out = self.kernel("forces")(self.batch, p, x)
        assert out.forces is not None
        return out.site["e"][: self.batch.atoms].clone(), out.forces

    def gradient(self, x: Tensor, p: Tensor, seed: Tensor, w: Tensor, by_x: bool) -> tuple[Tensor, Tensor]:
        inputs = {"seed": seed, "seed_t": torch.ones_like(seed)}
        by_p = self.kernel("gradient")(self.batch, p, x, inputs, moves=w).gradient
        assert by_p is not None
        if not by_x:
            return torch.zeros_like(x), by_p
        pulls = self.kernel("tangent")(self.batch, p, x, {"seed": seed}, tangents=torch.zeros_like(p), moves=w).forces
        assert pulls is not None
        return -pulls, by_p

    def tangent(self, x: Tensor, p: Tensor, dx: Tensor, dp: Tensor) -> tuple[Tensor, Tensor]:
        out = self.kernel("tangent")(self.batch, p, x, tangents=dp, moves=dx)
        assert out.forces is not None
        return out.site["e_t"][: self.batch.atoms].clone(), out.forces


class _Kept(dict):
    """What a batch keeps for each family of models that share their kernels; it stays in its process."""

    def __reduce__(self) -> tuple:
        return _Kept, ()


@torch.compiler.assume_constant_result
def _kernels(model: Model, batch: Batch) -> _Kernels:
    kept = batch.__dict__.setdefault("_autograd", _Kept())
    family = id(model._kernels)
    if family not in kept:
        with ThreadPoolExecutor(1) as pool:  # transforms and traces of torch belong to a thread: elsewhere, what is kept is plain tensors
            kept[family] = pool.submit(_Kernels, model, batch).result()
    return kept[family]


def _at(number: int) -> _Kernels:
    return _Kernels.known[number]


# ---- opaque operators --------------------------------------------------------------------------------------------------------------


@torch.library.custom_op("composer::evaluate", mutates_args=())
def _evaluate(x: Tensor, p: Tensor, kernels: int) -> tuple[Tensor, Tensor]:
    return _at(kernels).evaluate(*_dense(x, p))


@torch.library.custom_op("composer::gradient", mutates_args=())
def _gradient(x: Tensor, p: Tensor, seed: Tensor, w: Tensor, kernels: int, by_x: bool) -> tuple[Tensor, Tensor]:
    return _at(kernels).gradient(*_dense(x, p, seed, w), by_x=by_x)


@torch.library.custom_op("composer::tangent", mutates_args=())
def _tangent(x: Tensor, p: Tensor, dx: Tensor, dp: Tensor, kernels: int) -> tuple[Tensor, Tensor]:
    return _at(kernels).tangent(*_dense(x, p, dx, dp))


def _dense(*tensors: Tensor) -> list[Tensor]:
    return [t.contiguous() for t in tensors]


@_evaluate.register_fake
def _(x: Tensor, p: Tensor, kernels: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(_at(kernels).batch.atoms), torch.empty_like(x)


@_gradient.register_fake
def _(x: Tensor, p: Tensor, seed: Tensor, w: Tensor, kernels: int, by_x: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(p)


@_tangent.register_fake
def _(x: Tensor, p: Tensor, dx: Tensor, dp: Tensor, kernels: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(_at(kernels).batch.atoms), torch.empty_like(x)


def _one_by_one(operator: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    """The rule of vmap: call for each slice, stack the results."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        columns = [[a] * info.batch_size if d is None else list(a.movedim(d, 0)) for a, d in zip(args, in_dims, strict=True)]
        results = [operator(*row) for row in zip(*columns, strict=True)]
        return tuple(torch.stack(parts) for parts in zip(*results, strict=True)), (0, 0)

    return rule


for _operator in (_evaluate, _gradient, _tangent):
    _operator.register_vmap(_one_by_one(_operator))


# ---- derivatives -------------------------------------------------------------------------------------------------------------------


class _Evaluate(torch.autograd.Function):
    """(x, p) -> e, F with reverse mode; all that torch.compile can follow (forward mode is an error there)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, p: Tensor, kernels: int) -> Any:
        return _evaluate(x, p, kernels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        x, p, ctx.kernels = inputs
        ctx.save_for_backward(x, p)
        ctx.save_for_forward(x, p)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        function = _gradient if torch.compiler.is_compiling() else _Gradient.apply
        return *function(*ctx.saved_tensors, slopes[0], -slopes[1], ctx.kernels, ctx.needs_input_grad[0]), None  # F = -dE/dx


class _EvaluateBothWays(_Evaluate):
    """(x, p) -> e, F with reverse and forward mode."""

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dp: Tensor | None, _: None) -> Any:  # type: ignore[override]
        x, p = ctx.saved_tensors
        return _Tangent.apply(x, p, torch.zeros_like(x) if dx is None else dx, torch.zeros_like(p) if dp is None else dp, ctx.kernels)


class _Last(torch.autograd.Function):
    """A derivative that is not differentiated again: asking for it is an error, never zero."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise _refusal()

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise _refusal()


class _Gradient(_Last):
    @staticmethod
    def forward(x: Tensor, p: Tensor, seed: Tensor, w: Tensor, kernels: int, by_x: bool) -> Any:
        return _gradient(x, p, seed, w, kernels, by_x)


class _Tangent(_Last):
    @staticmethod
    def forward(x: Tensor, p: Tensor, dx: Tensor, dp: Tensor, kernels: int) -> Any:
        return _tangent(x, p, dx, dp, kernels)


def _refusal() -> AlgebraError:
    return AlgebraError(
        "A derivative of order 2 of the outputs of a model was asked for",
        "Derivatives of order 1 of energies, forces and virials are provided",
        "Use the forces and the virial that call returns instead of differentiating the energy yourself",
    )


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
