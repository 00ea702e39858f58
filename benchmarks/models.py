"""The composer models of the speed table, with the numbers of `benchmarks.systems`."""

from __future__ import annotations

from typing import Any

import torch

import composer.model
from benchmarks import systems
from terms import Embedding, LennardJones, Morse, Pair, StillingerWeber, Tersoff, ThreeBody


def lennard_jones() -> Any:
    expression = LennardJones(cutoff=systems.LJ_CUTOFF)
    values = {"LennardJones.epsilon": systems.LJ["epsilon"], "LennardJones.sigma": systems.LJ["sigma"]}
    return composer.model.compile(expression, ["Ar"], values, quiet=True)


def embedded_atom() -> Any:
    q = systems.EAM
    expression = Morse(cutoff=systems.EAM_CUTOFF) + Embedding(cutoff=systems.EAM_CUTOFF, length=q["length"])
    values = {
        "Morse.depth": q["depth"],
        "Morse.width": q["alpha"],
        "Morse.length": q["length"],
        "Embedding.coefficients": [[-q["A"], q["B"]]],
        "Embedding.decay": q["b"],
    }
    return composer.model.compile(expression, ["Cu"], values, quiet=True)


def stillinger_weber() -> Any:
    q = systems.SW
    values = {
        "StillingerWeber.A": q["epsilon"] * q["A"],
        "StillingerWeber.B": q["B"],
        "StillingerWeber.sigma": q["sigma"],
        "StillingerWeber.gamma": q["gamma"],
        "StillingerWeber.angular": q["epsilon"] * q["lambda"],
        "StillingerWeber.cosine": q["cos0"],
    }
    return composer.model.compile(StillingerWeber(cutoff=systems.SW_CUTOFF), ["Si"], values, quiet=True)


def tersoff() -> Any:
    q = systems.TERSOFF
    names = {
        "A": "A",
        "B": "B",
        "lambda1": "lambda1",
        "lambda2": "lambda2",
        "lambda3": "lambda3",
        "beta": "beta",
        "n": "n",
        "c": "c",
        "d": "d",
    }
    values = {f"Tersoff.{ours}": q[theirs] for ours, theirs in names.items()} | {"Tersoff.cosine": q["cos0"]}
    expression = Tersoff(inner=systems.TERSOFF_INNER, cutoff=systems.TERSOFF_CUTOFF, m=3)
    return composer.model.compile(expression, ["Si"], values, quiet=True)


def three_body(cutoff: float = 4.615858, species: str = "Mo") -> Any:
    """75 fitted numbers: E0, 14 pair functions and 60 three-body coefficients within the cutoff of the published SNAP."""
    model = composer.model.compile(Pair(cutoff=cutoff, n_max=14) + ThreeBody(cutoff=cutoff, n_max=4, l_max=5), [species], quiet=True)
    return model.with_parameters(torch.linspace(-0.01, 0.01, model.size, dtype=torch.float64))
