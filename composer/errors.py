"""Errors of composer: what was asked, what was found, what to type."""

from __future__ import annotations

from numbers import Integral
from typing import Any


class ComposerError(Exception):
    """Base of every error that composer raises on purpose.

    Arguments: asked, found, type_this (sentences; the last two may be left out when the first holds all three).
    """

    def __init__(self, asked: str, found: str = "", type_this: str = "") -> None:
        self.asked, self.found, self.type_this = asked, found, type_this
        super().__init__(" ".join(_sentence(part) for part in (asked, found, type_this) if part))


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else text + "."


class AlgebraError(ComposerError):
    """An expression that the algebra of terms does not allow."""


class DataError(ComposerError):
    """Structures or observables that cannot be used as they are."""


class UnitError(ComposerError):
    """A quantity whose unit is missing, unknown or of another dimension."""


class BackendError(ComposerError):
    """A machine, compiler or program that cannot do what was asked."""


def check_whole(asked: str, **limits: tuple[Any, int]) -> None:
    """Refuse what is no whole number from a bound on.

    Arguments: asked, such as "A fit"; limits, (value, least) by the name of the argument. Errors: DataError that names the argument.
    """
    for name, (value, least) in limits.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            found = f"It must be a whole number from {least} on"
            raise DataError(f"{asked} with {name}={value!r} was asked for", found, f"Leave {name} out, or write {name}={least}")
