"""What operators that torch does not look into share: a rule of vmap, tangents that are missing, derivatives that end, a thread of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from composer.errors import ComposerError


def one_by_one(operator: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of vmap: call for each slice, stack the results."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        columns = [[a] * info.batch_size if d is None else list(a.movedim(d, 0)) for a, d in zip(args, in_dims, strict=True)]
        results = [operator(*row) for row in zip(*columns, strict=True)]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(torch.stack(parts) for parts in zip(*results, strict=True)), (0,) * len(results[0])

    return rule


def or_zeros(given: Tensor | None, like: Tensor) -> Tensor:
    """A tangent or slope, zeros where there is none."""
    return torch.zeros_like(like) if given is None else given


def apart(run: Callable[[], Any], device: torch.device) -> Any:
    """What `run` gives in a thread of its own, on the caller's stream: transforms and traces of torch belong to a thread."""
    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None

    def there() -> Any:
        with torch.no_grad(), torch.cuda.stream(stream):
            return run()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(there).result()


def last(refusal: Callable[[], ComposerError]) -> type[torch.autograd.Function]:
    """The kind of a derivative that is not differentiated again: asking for it is an error, never zero."""

    class Last(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, *_: Any) -> Any:
            raise refusal()

        @staticmethod
        def jvp(ctx: Any, *_: Any) -> Any:
            raise refusal()

    return Last
