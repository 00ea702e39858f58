"""Target ipi: a client of i-PI over a socket, through ASE."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.socketio import SocketClient, SocketIOCalculator

from composer.calculator import Calculator
from composer.errors import DataError
from composer.export.library import Values
from composer.export.scripts import write_script
from composer.model import Model


def serve(model: Model, symbols: Sequence[str], address: str, periodic: bool = True) -> None:
    """Answer i-PI until it closes the connection.

    Arguments: model; symbols of the atoms, in i-PI's order; address, "host:port" or the name of a unix socket, as i-PI is told.
    Errors: DataError for a species that the model does not know, or when there is no server.
    """
    unknown = sorted(set(symbols) - set(model.species))
    if unknown:
        raise DataError(
            f"An i-PI client for {', '.join(unknown)} was asked for", f"The model knows {', '.join(model.species)}", "Use these"
        )
    atoms = Atoms(list(symbols), positions=[[0.0, 0.0, 10.0 * n] for n in range(len(symbols))], pbc=periodic)
    atoms.cell = [1000.0, 1000.0, 1000.0]  # until the server says its own
    atoms.calc = Calculator(model)
    host, colon, port = address.rpartition(":")
    try:
        client = SocketClient(host, int(port)) if colon and port.isdigit() else SocketClient(unixsocket=address)
    except OSError as error:
        raise DataError(f"i-PI was looked for at {address}", str(error), "Start i-PI first, with the same address") from None
    client.run(atoms, use_stress=periodic)


BODY = """
import sys

from ase.io import read

if __name__ == "__main__":  # python engine.py structure.xyz host:port   (or the name of a unix socket)
    atoms = read(sys.argv[1])
    serve(model, atoms.get_chemical_symbols(), sys.argv[2], periodic=bool(atoms.pbc.all()))
"""


def write(model: Model, folder: Path, shown: str) -> str:
    """Write the script that serves i-PI."""
    write_script(folder, shown, "i-PI", "ase", "ipi", "serve", BODY)
    return f"Start i-PI, then: python {shown}/engine.py structure.xyz localhost:31415"


def check_engine(folder: Path, model: Model) -> Any:
    """The model behind a socket of this machine, with ASE as the server."""

    def engine(atoms: Atoms) -> Values:
        name, whole = f"composer_{uuid.uuid4().hex[:12]}", bool(all(atoms.pbc))
        asked = atoms.copy()
        asked.cell = atoms.cell.array if whole else [1000.0, 1000.0, 1000.0]
        with SocketIOCalculator(unixsocket=name) as server:
            client = threading.Thread(target=serve, args=(model, atoms.get_chemical_symbols(), name, whole), daemon=True)
            client.start()
            asked.calc = server
            energy, forces = asked.get_potential_energy(), asked.get_forces()
            virial = -asked.get_stress(voigt=False) * asked.get_volume() if whole else None
        client.join(10.0)
        return Values(energy, forces, virial)

    return engine


__all__ = ["serve"]
