"""The autograd seam: every way torch differentiates, once, gives the same numbers; twice is an error (theory/compiler.md, 9 and 17)."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from composer import autograd
from composer.autograd import Outputs, as_module, call
from composer.errors import AlgebraError
from composer.model import Model
from composer.model.placed import Placed
from composer.neighbors import Batch, update
from terms import Bond, Density, Morse, Pair, ThreeBody
from tests.laws.subjects import TOLERANCE, assert_close, assert_columns, build, random, scattered

KINDS = ("forces", "energies", "parameters", "gradient", "tangent", "columns")


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    expressions = {
        "pairs": Pair(cutoff=4.0, n_max=3) + Morse(cutoff=4.0).named("well"),
        "product": ThreeBody(cutoff=4.0, n_max=2, l_max=1) * (1 + Density(cutoff=4.5)) + Morse(cutoff=4.0).freeze("width"),
        "stages": Bond(cutoff=4.0, n_max=2) + Density(cutoff=3.5),
    }
    found = {name: Model(expression, ("Si", "C")) for name, expression in expressions.items()}
    found = {name: model.with_parameters(scattered(model, 1)) for name, model in found.items()}
    build(list(found.values()), KINDS)
    return found


@pytest.fixture(params=["pairs", "product", "stages"])
def model(request: pytest.FixtureRequest, models: dict[str, Model]) -> Model:
    return models[request.param]


def structures() -> list[Atoms]:
    crystal = ase.build.bulk("Si", "diamond", a=5.0)
    crystal.symbols[1] = "C"
    crystal.positions += np.random.default_rng(0).normal(size=(2, 3)) * 0.1
    return [crystal, Atoms("SiC2Si", [[0, 0, 0], [1.9, 0.2, 0], [-0.3, 1.8, 0.4], [0.5, 0.3, 2.1]]), Atoms("C")]


@pytest.fixture
def batch(model: Model) -> Batch:
    return model.prepare(structures(), skin=0.5)


def point(model: Model, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return batch.positions, batch.cells, model.theta


def loss_on(model: Model, batch: Batch) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A loss that is not linear in any output."""
    w = random(batch.atoms, 3, seed=9)

    def loss(x: Tensor, h: Tensor, theta: Tensor) -> Tensor:
        out = call(model, batch, x, h, theta)
        return (out.energy**2).sum() + (out.forces * w).sum() + (out.forces**2).sum() + out.virial.sin().sum() + out.energies.cos().sum()

    return loss


def test_outputs_are_those_of_the_model(model: Model, batch: Batch) -> None:
    ours, wanted = call(model, batch, batch.positions, batch.cells), model(batch)
    assert batch.half == (model.halved is not None)
    for name in Outputs._fields:
        assert_close(getattr(ours, name), getattr(wanted, name), "symmetry")
    tables = call(model, batch, batch.positions, batch.cells, model.parameters)
    assert all(torch.equal(a, b) for a, b in zip(tables, ours))


def test_compiler_06_reverse_forward_and_differences_agree(model: Model, batch: Batch) -> None:
    """Number 16 of theory/interfaces.md, section 12, too: forward mode equals central differences and is not zero."""
    loss, at = loss_on(model, batch), point(model, batch)
    leaves = [t.clone().requires_grad_() for t in at]
    backward = torch.autograd.grad(loss(*leaves), leaves)
    functional = grad(loss, argnums=(0, 1, 2))(*at)
    for ours, wanted in zip(backward, functional):
        assert_close(ours, wanted, "transform")
    along = tuple(random(*t.shape, seed=n) for n, t in enumerate(at))
    _, tangent = jvp(loss, at, along)
    assert_close(tangent, sum((g * t).sum() for g, t in zip(backward, along)), "transform")  # type: ignore[arg-type]
    step = 1e-5
    ahead, behind = (loss(*(t + s * step * u for t, u in zip(at, along))) for s in (1, -1))
    assert abs(float((ahead - behind) / (2 * step) / tangent) - 1) < 1e-6


def test_compiler_07_hessian_vector_products(model: Model, batch: Batch) -> None:
    h = batch.cells
    w1, w2 = random(batch.atoms, 3, seed=1), random(batch.atoms, 3, seed=2)
    (_, forward), (_, pull) = (
        jvp(lambda x: call(model, batch, x, h).forces, (batch.positions,), (w1,)),
        vjp(lambda x: call(model, batch, x, h).forces, batch.positions),
    )
    assert_close(pull(w1)[0], forward, "transform")
    assert abs(float((w2 * forward).sum() - (w1 * pull(w2)[0]).sum())) < 1e-11 * float(forward.abs().max())


def test_compiler_08_virial_loss(model: Model, batch: Batch) -> None:
    """The gradient of a virial loss by a general strain, against central differences."""
    w, g, one = random(batch.structures, 3, 3), random(3, 3, seed=3) / 3, torch.eye(3, dtype=torch.float64)

    def loss(strain: Tensor) -> Tensor:
        f = one + strain
        return (w * call(model, batch, batch.positions @ f, batch.cells @ f).virial).sum()

    slope = (grad(loss)(torch.zeros(3, 3, dtype=torch.float64)) * g).sum()
    step = 1e-5
    wanted = (loss(step * g) - loss(-step * g)) / (2 * step)
    assert abs(float(slope)) > 1e-3 and abs(float(slope / wanted) - 1) < 1e-6


def test_compiler_09_jacobians_of_every_kind(model: Model, batch: Batch) -> None:
    x, h, theta = point(model, batch)

    def outputs(theta: Tensor) -> Outputs:
        return call(model, batch, x, h, theta)

    forward, backward = jacfwd(outputs)(theta), jacrev(outputs)(theta)
    for name in Outputs._fields:
        assert_close(getattr(backward, name), getattr(forward, name), "transform")
    kernel = model.jacobian(batch)
    assert_columns(kernel.forces, forward.forces, theta)
    assert_columns(kernel.virial, forward.virial, theta)
    felt = 0
    for q in range(len(model.species), model.size):
        unit = torch.zeros_like(theta)
        unit[q] = 1.0
        _, column = jvp(lambda t: outputs(t).forces, (theta,), (unit,))
        step = 1e-4 * max(float(theta[q].abs()), 0.1)
        ahead, behind = outputs(theta + step * unit).forces, outputs(theta - step * unit).forces
        scale = float(column.abs().max())
        felt += scale > 1e-7
        assert float((column - (ahead - behind) / (2 * step)).abs().max()) < 1e-5 * scale + 1e-10
    assert felt > 0.8 * (model.size - len(model.species))  # the rest are pairs that no structure holds
    by_x = jacfwd(lambda x: call(model, batch, x, h).forces)(x)
    assert_close(jacrev(lambda x: call(model, batch, x, h).forces)(x), by_x, "transform")


def test_compiler_09_vmap(model: Model, batch: Batch) -> None:
    """Over parameters, positions and cells, each alone and together, of values and of derivatives."""
    loss, (x, h, theta) = loss_on(model, batch), point(model, batch)
    many = theta * (1 + 0.1 * random(3, model.size))
    moved, cells = x + 0.05 * random(3, *x.shape), h * (1 + 0.01 * random(3, 1, 1, 1))
    every = (moved, cells, many)
    for in_dims in ((None, None, 0), (0, None, None), (None, 0, None), (0, 0, 0), (0, None, 0)):
        args = [a if d == 0 else a[0] for a, d in zip(every, in_dims)]
        rows = [[a[n] if d == 0 else a for a, d in zip(args, in_dims)] for n in range(3)]
        for function in (loss, grad(loss, argnums=2), grad(loss, argnums=0), jacfwd(loss, argnums=2)):
            wanted = torch.stack([function(*row) for row in rows])
            assert_close(vmap(function, in_dims)(*args), wanted, "transform")


def test_compiler_09_make_fx_of_a_force_loss(model: Model, batch: Batch) -> None:
    """The traced gradient holds the operators as single nodes and gives the same numbers at another point."""
    loss, at = loss_on(model, batch), point(model, batch)
    other = tuple(t * (1 + 1e-2 * random(*t.shape, seed=4)) for t in at)
    wanted = grad(loss, argnums=(0, 2))(*other)
    for mode in ("real", "fake", "symbolic"):
        traced = make_fx(grad(loss, argnums=(0, 2)), tracing_mode=mode, _allow_non_fake_inputs=True)(*at)
        names = [str(n.target) for n in traced.graph.nodes if "composer" in str(n.target)]
        assert names == ["composer.evaluate.default", "composer.gradient.default"]
        for ours, expected in zip(traced(*other), wanted):
            assert_close(ours, expected, "transform")


def test_compiler_10_higher_orders_are_refused(model: Model, batch: Batch) -> None:
    """An error that names the order, never zeros."""
    x, h, theta = point(model, batch)

    def energy(x: Tensor) -> Tensor:
        return call(model, batch, x, h, theta).energy.sum()

    ways: list[Callable[[], object]] = [
        lambda: hessian(energy)(x),
        lambda: jacrev(jacrev(energy))(x),
        lambda: jacfwd(jacfwd(energy))(x),
        lambda: jacrev(jacfwd(energy))(x),
        lambda: jacfwd(jacrev(lambda t: call(model, batch, x, h, t).forces.sum()))(theta),
    ]
    for way in ways:
        with pytest.raises(AlgebraError, match="order 2"):
            way()
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(energy(leaf), leaf, create_graph=True)
    with pytest.raises(AlgebraError, match="order 2"):
        (slope**2).sum().backward()


def test_compiler_23_opcheck(model: Model, batch: Batch) -> None:
    kernels = autograd._placed(model, batch)
    x, h = autograd.differentiable_positions(kernels.batch, batch.positions, batch.cells), batch.cells
    moves, strain, seed = 0.1 * random(*x.shape), 0.1 * random(*h.shape), random(batch.atoms)
    calls = {
        autograd._evaluate: (x, h, model.flat, kernels.number),
        autograd._gradient: (x, h, model.flat, seed, moves, strain, kernels.number, True),
        autograd._tangent: (x, h, model.flat, moves, strain, 0.1 * model.flat, kernels.number),
    }
    for operator, arguments in calls.items():
        assert set(torch.library.opcheck(operator, arguments).values()) == {"SUCCESS"}


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's tracer, of any autograd.Function
def test_compiler_23_a_compiled_region_with_backward(models: dict[str, Model]) -> None:
    """torch.compile(fullgraph=True) over a loss, list and kernels made inside; its own code generator is not what is tried."""
    model = models["product"]
    batch = model.prepare(structures(), skin=0.5)
    loss, at = loss_on(model, batch), point(model, batch)
    results = []
    for function in (torch.compile(loss, fullgraph=True, backend="aot_eager"), loss):
        leaves = [t.clone().requires_grad_() for t in at]
        value = function(*leaves)
        results.append([value.detach(), *torch.autograd.grad(value, leaves)])
    for ours, wanted in zip(*results):
        assert_close(ours, wanted, "transform")
    torch._dynamo.reset()


def test_the_first_call_may_be_inside_a_transform(model: Model) -> None:
    """What a batch keeps must not belong to the transform in which it was made."""
    wanted = None
    for first in (0, 1, 2):
        batch = model.prepare(structures(), skin=0.5)
        loss, (x, h, theta) = loss_on(model, batch), point(model, batch)
        found = [(grad, jacfwd, jacrev)[(first + n) % 3](loss)(x, h, theta) for n in range(3)]
        traced = make_fx(grad(loss), tracing_mode="symbolic", _allow_non_fake_inputs=True)
        found += [vmap(grad(loss), (0, None, None))(x[None], h, theta)[0], traced(x, h, theta)(x, h, theta)]
        wanted = found[0] if wanted is None else wanted
        for gradient in found:
            assert_close(gradient, wanted, "transform")
    fresh = model.prepare(structures())
    traced = make_fx(lambda x: call(model, fresh, x, fresh.cells).forces, tracing_mode="fake", _allow_non_fake_inputs=True)(fresh.positions)
    assert_close(traced(fresh.positions), call(model, fresh, fresh.positions, fresh.cells).forces, "transform")


def test_dtypes_and_strides(model: Model, batch: Batch) -> None:
    x, h, theta = point(model, batch)
    wanted = call(model, batch, x, h, theta).forces
    strided = torch.cat([x, x], 1)[:, :3]
    assert not strided.is_contiguous()
    assert torch.equal(call(model, batch, strided, h, theta).forces, wanted)
    single = x.float().requires_grad_()
    call(model, batch, single, h, theta).energy.sum().backward()
    assert single.grad is not None and single.grad.dtype == torch.float32
    torch.testing.assert_close(single.grad.double(), -wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_tables_by_name(model: Model, batch: Batch) -> None:
    """Derivatives go to the tables that are given; others keep their numbers; unknown names are refused."""
    name = next(n for n in model.parameters if n != "E0" and "width" not in n)
    table = (1.1 * model.parameters[name]).requires_grad_()
    out = call(model, batch, batch.positions, batch.cells, {name: table})
    assert_close(out.forces, model.with_parameters({name: table.detach()})(batch).forces, "symmetry")
    (slope,) = torch.autograd.grad((out.forces**2).sum(), table)
    assert float(slope.abs().max()) > 1e-8
    with pytest.raises(AlgebraError, match="Use names of model.parameters"):
        call(model, batch, batch.positions, batch.cells, {"Pair.depth": table})


def test_the_list_holds_within_its_skin(model: Model, batch: Batch) -> None:
    """Also where the batch holds each pair once and was moved since."""
    x = batch.positions + 0.2 * torch.tanh(random(batch.atoms, 3))
    moved = call(model, update(batch, x), x, batch.cells)
    fresh = [a.copy() for a in structures()]
    for atoms, new in zip(fresh, x.split([len(a) for a in fresh])):
        atoms.positions = new.numpy()
    assert_close(moved.forces, model(model.prepare(fresh)).forces, "symmetry")


def test_batches_and_models_travel_and_vanish(models: dict[str, Model]) -> None:
    model = models["product"]
    batch = model.prepare(structures())
    wanted = call(model, batch, batch.positions, batch.cells)
    copied = pickle.loads(pickle.dumps(batch))
    assert torch.equal(call(model, copied, copied.positions, copied.cells).forces, wanted.forces)
    changed = model.with_parameters(1.1 * model.theta)  # shares the kernels, and what the batch keeps
    assert not torch.equal(call(changed, batch, batch.positions, batch.cells).forces, wanted.forces)
    gc.collect()
    known = len(Placed.known)
    del batch, copied
    gc.collect()
    assert len(Placed.known) == known - 2


def test_modules_train(models: dict[str, Model]) -> None:
    """A torch optimiser finds the parameters that made the data, through the parameters of a module."""
    model = models["product"]
    batch, truth = model.prepare(structures()), model(model.prepare(structures()))
    start = model.with_parameters({n: t * (1.1 if n != "Morse.width" else 1.0) for n, t in model.parameters.items()})
    module = as_module(start)
    assert set(module.state_dict()) == set(model.parameters)
    assert [n for n, p in module.named_parameters() if not p.requires_grad] == ["Morse.width"]
    optimizer, losses = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=0.01), []
    for _ in range(30):
        optimizer.zero_grad()
        out = module(batch)
        value = ((out.energy - truth.energy) ** 2).sum() + ((out.forces - truth.forces) ** 2).sum()
        value.backward()
        losses.append(float(value.detach()))
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]
    trained = module.model()
    assert_close(trained(batch).energy, module(batch).energy.detach(), "symmetry")
    again = as_module(model)
    again.load_state_dict(module.state_dict())
    assert torch.equal(again.model().theta, trained.theta)
    assert TOLERANCE["transform"] == 1e-12
