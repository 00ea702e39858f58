"""Terms with which something goes wrong: known to workers because they stand in a module."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass

from composer.algebra import Term
from composer.errors import BackendError
from composer.quantities import Environment, Node, Param, log, sum_over


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NotANumber(Term):
    """sum_j c log(r - cutoff): NaN everywhere."""

    cutoff: float
    c = Param(0.0, unit="eV", amplitude=True)

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        return sum_over(j, self.c.node * log(j.r - self.cutoff))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Unbuildable(Term):
    """A term whose kernels cannot be built."""

    cutoff: float
    c = Param(0.0, unit="eV", amplitude=True)

    def site(self, env: Environment) -> Node:
        raise BackendError("A kernel was asked for", "It cannot be built", "Use another term")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Lethal(Term):
    """sum_j c (1 - r/cutoff): ends every worker process that looks at it."""

    cutoff: float
    c = Param(0.0, unit="eV", amplitude=True)

    def site(self, env: Environment) -> Node:
        if multiprocessing.parent_process() is not None:
            os._exit(3)
        j = env.neighbors(self.cutoff)
        return sum_over(j, self.c.node * (1 - j.r / self.cutoff))
