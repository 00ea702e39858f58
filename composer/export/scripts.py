"""What the targets of Python engines write: the model file stands beside a script of a few lines that opens it in the engine."""

from __future__ import annotations

from pathlib import Path

SCRIPT = "engine.py"
HEAD = '''"""Written by composer: the model beside this file in {engine}. Needs composer-potentials and {package}."""

from pathlib import Path

import composer
from composer.export.{module} import {name}

model = composer.read_model(Path(__file__).with_name("model.composer"))
'''


def write_script(folder: Path, shown: str, engine: str, package: str, module: str, name: str, body: str) -> str:
    """Write engine.py; returns what a user types."""
    text = HEAD.format(engine=engine, package=package, module=module, name=name)
    (folder / SCRIPT).write_text(text + body)
    return f"{shown}/{SCRIPT} opens the model in {engine}:\n" + "\n".join(f"  {line}" for line in body.strip().splitlines())
