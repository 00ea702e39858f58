"""What a fit says while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable

from composer.fit.levenberg import Step


def reporter(quiet: bool) -> Callable[[str, Step | None], None]:
    """Print texts; steps go to a progress bar on a terminal and to lines elsewhere."""
    if quiet:
        return lambda text, step: None
    if not sys.stderr.isatty():

        def log(text: str, step: Step | None) -> None:
            if step is not None and step.number % 10 == 0:
                print(f"  step {step.number:3d}  cost {step.cost:.6g}", flush=True)
            elif text:
                print(text, flush=True)

        return log
    from tqdm import tqdm

    bar = tqdm(total=0, bar_format="{desc}", leave=False)

    def show(text: str, step: Step | None) -> None:
        if step is not None:
            bar.set_description_str(f"step {step.number}, cost {step.cost:.6g}, damping {step.damping:.0e}")
        elif text:
            bar.write(text)
        else:
            bar.close()

    return show
