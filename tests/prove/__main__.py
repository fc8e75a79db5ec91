"""`python -m tests.prove WHAT`: the long proofs of one subject, each printed in a line, then their sum."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from tests.prove.report import Report

SUBJECTS = ("source", "routing", "resolving", "consistency")


def prove(
    what: Annotated[str, typer.Argument(help=" | ".join(SUBJECTS))],
    seed: Annotated[int, typer.Option(help="The first seed.")] = 1,
    scale: Annotated[float, typer.Option(help="1 = the full proof; less = part of it.")] = 1.0,
    seeds: Annotated[int, typer.Option(help="Random histories or schedules a line.")] = 1000,
    only: Annotated[
        str, typer.Option(help="Only the module of this name, such as conditions.")
    ] = "",
) -> None:
    """Runs every module `<what>_*.py` beside this one that has a `run`."""
    names = sorted(
        path.stem
        for path in Path(__file__).parent.glob(f"{what}_{only.replace('-', '_') or '*'}.py")
    )
    if not names:
        raise typer.BadParameter(f"nothing is proved about {what}: {', '.join(SUBJECTS)}")
    report = Report(what, seed, scale, seeds)
    for name in names:
        importlib.import_module(f"tests.prove.{name}").run(report)
    sys.exit(report.end())


if __name__ == "__main__":
    typer.run(prove)
