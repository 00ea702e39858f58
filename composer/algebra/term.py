"""A term: a frozen declaration whose fields are architecture and whose `Param`s are numbers."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
from collections.abc import Iterable
from typing import Any, ClassVar

from composer.algebra.operators import Expression, is_number
from composer.errors import AlgebraError
from composer.ir.nodes import Node
from composer.quantities import Environment, Param

REGISTRY: dict[str, type[Term]] = {}
WANTED = {"float": "a number", "int": "a whole number", "str": "a word in quotes", "bool": "True or False"}  # by declared type of a field


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Term(Expression):
    """A physics term: fields are architecture, `Param` attributes are learnable numbers, `site` states its scalar.

    `name` unties it from equal terms; `fixed` lists parameters that are not fitted, with their value or None for the default.
    """

    smoothness: ClassVar[int] = 2
    alone: ClassVar[bool] = False  # an energy of the whole structure: a search adds it to others and multiplies it with nothing
    name: str | None = None
    fixed: tuple[tuple[str, float | None], ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        REGISTRY[cls.__name__] = cls

    def __new__(cls, *values: Any, **named: Any) -> Any:
        try:
            _signature(cls).bind(None, *values, **named)
        except TypeError as error:
            raise _misnamed(cls, str(error), named) from None
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> tuple[tuple, dict[str, Any]]:
        return (), {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                object.__setattr__(self, field.name, self._coerced(field, value))
            left_out = value is None and field.default is None  # the term chooses
            if field.name.startswith("cutoff") and not left_out and not all(is_number(c) and 0 < c < math.inf for c in _flat(value)):
                raise AlgebraError(
                    f"{type(self).__name__} was asked for with {field.name} = {value}. A cutoff must be a finite length above 0 Å. Give e.g. 5.0."
                )
        object.__setattr__(self, "fixed", self._held())
        unknown = [n for n, _ in self.fixed if n not in self.params()]
        if unknown:
            raise AlgebraError(
                f"{type(self).__name__} was asked to fix {unknown}. Its parameters are {', '.join(self.params())}. Name one of these."
            )
        self.check()

    def _coerced(self, field: Any, value: Any) -> Any:
        """6 and 6.0 are one cutoff: numbers take the type that the field declares, lists become tuples."""
        kind = field.type.__name__ if isinstance(field.type, type) else str(field.type).split(" ")[0]
        if kind == "float" and is_number(value):
            return float(value)
        if kind == "int" and is_number(value) and float(value).is_integer():
            return int(value)
        if kind in WANTED and not (kind in ("str", "bool") and type(value).__name__ == kind):
            raise AlgebraError(
                f"{type(self).__name__} was asked for with {field.name} = {value!r}. It must be {WANTED[kind]}. Mend {field.name}."
            )
        return tuples(value)

    def _held(self) -> tuple[tuple[str, float | None], ...]:
        """The pairs of `fixed`, with numbers as floats."""
        given = self.fixed if isinstance(self.fixed, tuple) else (self.fixed,)
        if not all(isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], str) and _is_start(p[1]) for p in given):
            name = next(iter(self.params()), "a")
            raise AlgebraError(
                f"{type(self).__name__} was asked for with fixed = {self.fixed!r}",
                "It holds pairs of a parameter's name with a finite number, or with None for the default",
                f"Write .freeze({name!r}) or .fix({name}=1.0) behind the term",
            )
        return tuple((name, value if value is None else float(value)) for name, value in given)

    def check(self) -> None:
        """Raise an AlgebraError if the fields make no sense (terms may override)."""

    @classmethod
    def params(cls) -> dict[str, Param]:
        """The learnable numbers, by attribute name."""
        return {n: p for c in reversed(cls.__mro__) for n, p in vars(c).items() if isinstance(p, Param)}

    def named(self, name: str) -> Term:
        """The same term with parameters of its own under `name`."""
        return dataclasses.replace(self, name=str(name))

    def nameless(self) -> Term:
        """The same term without its name: terms that differ in names alone have one."""
        return dataclasses.replace(self, name=None)

    def freeze(self, *names: str) -> Term:
        """The same term with these parameters (all, if none is named) not fitted."""
        kept = dict(self.fixed)
        return dataclasses.replace(self, fixed=tuple(sorted({**kept, **{n: kept.get(n) for n in names or tuple(self.params())}}.items())))

    def fix(self, **values: float) -> Term:
        """The same term with these parameters held at the given values."""
        return dataclasses.replace(self, fixed=tuple(sorted({**dict(self.fixed), **values}.items())))

    def flat_directions(self, tables: dict[str, Any]) -> list[dict[str, Any]]:
        """Changes of its own tables (numpy, [rows, *shape] by name) along which nothing changes to first order (terms may override)."""
        return []

    def vanishing(self) -> Term | None:
        """A site scalar whose sum over each structure should be zero, and need not be: it is told, and a fit may be asked to mind it."""
        return None

    def given_charges(self) -> dict[str, float]:
        """Charges (e) by species that are given and should sum to zero in a periodic structure; none where the term has no such."""
        return {}

    def terms(self) -> list[Term]:
        """The term itself and those that its fields are made of, which have parameters too."""
        found = {term.canonical: term for term in (self, *super().terms())}
        return [found[k] for k in sorted(found)]

    @property
    def amplitude(self) -> tuple[str, ...]:
        free = [n for n, p in self.params().items() if p.amplitude and n not in dict(self.fixed)]
        return (self.digest,) if free else ()

    def data(self) -> Any:
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value == field.default and (field.name in ("name", "fixed") or field.metadata.get("quiet")):
                continue
            fields[field.name] = value.data() if isinstance(value, Expression) else _plain(value)
        return {"term": type(self).__name__, **fields}

    def __repr__(self) -> str:
        fields = [(f, getattr(self, f.name)) for f in dataclasses.fields(self) if f.name not in ("name", "fixed")]
        given = [(f.name, value) for f, value in fields if value != f.default]
        text = f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in given)})"
        text += f".named({self.name!r})" if self.name else ""
        values = {n: v for n, v in self.fixed if v is not None}
        frozen = [repr(n) for n, v in self.fixed if v is None]
        text += f".fix({', '.join(f'{n}={v!r}' for n, v in values.items())})" if values else ""
        return text + (f".freeze({', '.join(frozen)})" if frozen else "")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Scale(Term):
    """One learnable number, a: the amplitude of whatever it multiplies."""

    a = Param(0.0, amplitude=True)

    def site(self, env: Environment) -> Node:
        return self.a.node


@functools.cache
def _signature(cls: type[Term]) -> inspect.Signature:
    return inspect.signature(cls.__init__)


def _misnamed(cls: type[Term], found: str, given: Iterable[str]) -> AlgebraError:
    """What is said of fields that a term does not have, or was not given."""
    first, last, *own = [f.name for f in dataclasses.fields(cls)]
    fields = [*own, first, last]  # those of every term stand last
    near = [name for n in given if n not in fields for name in difflib.get_close_matches(n, fields, 1)]
    missing = [f for f in fields if repr(f) in found]
    strange = next((n for n in given if n not in fields), None)
    found = found if strange is None else f"got an unexpected keyword argument {strange!r}"
    advice = f"Write {cls.__name__}({[*near, *missing, *fields][0]}=...)"
    return AlgebraError(f"{cls.__name__} was asked for, {found}", f"Its fields are {', '.join(fields)}", advice)


def _is_start(value: Any) -> bool:
    return value is None or (is_number(value) and math.isfinite(value))


def tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(tuples(v) for v in value)
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _flat(value: Any) -> list[float]:
    return [x for v in value for x in _flat(v)] if isinstance(value, (list, tuple)) else [value]
