"""How a command ends: with text for people, or one JSON object on stdout and everything else on stderr."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout
from typing import Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from composer.errors import ComposerError


@dataclasses.dataclass(frozen=True)
class Answer:
    """Text for people, the payload of --json, and whether the command did what was asked (if not, the exit status is 1)."""

    text: str | Table
    payload: Mapping[str, Any]
    ok: bool = True


def answering(command: Callable[..., Answer]) -> Callable[..., None]:
    """Print what a command answers; errors of composer are their three sentences (or JSON) and exit status 1, without a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        as_json = bool(kwargs.get("as_json"))
        try:
            with redirect_stdout(sys.stderr) if as_json else nullcontext():  # progress is no part of the JSON
                answer = command(*args, **kwargs)
        except ComposerError as error:
            if as_json:
                print(json.dumps({"error": type(error).__name__, "message": str(error)}))
            else:
                Console(stderr=True, soft_wrap=True).print(f"{type(error).__name__}: {error}", style="red", markup=False, highlight=False)
            raise typer.Exit(1) from None
        if as_json:
            print(json.dumps(answer.payload, indent=1, default=plain))
        else:
            Console().print(answer.text, soft_wrap=isinstance(answer.text, str), markup=False, highlight=False)
        if not answer.ok:
            raise typer.Exit(1)

    return run


def plain(value: Any) -> Any:
    """Dataclasses and arrays as what JSON knows, anything else as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    tolist = getattr(value, "tolist", None)
    return str(value) if tolist is None else tolist()


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with None, which is null in JSON, in place of numbers that are not finite."""
    return {n: None if isinstance(v, float) and not np.isfinite(v) else v for n, v in row.items()}
