"""`gravity resolve`: tries a conflict rule on one row's history."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from gravity.cli.option import print_json, remarks
from gravity.trial import HistoryError, try_history


def resolve(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The history, as JSON; - is standard input.")
    ],
) -> None:
    """Try a conflict rule: what it makes of one row's history, before it is trusted with data.

    FILE holds a rule, the target's columns with their defaults, and the events of one row at its
    sources, in the form of docs/conflicts.md. Printed is one JSON object: outcome (row, delete or
    hold), the row, the winner, the conflicts met and the opinions that count. Nothing else is read
    or written; it is the very code that the resolver runs.
    """
    name = "standard input" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise HistoryError(
            f"no JSON: {error.msg}", where=f"{name}, line {error.lineno}, column {error.colno}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise HistoryError(f"can't be read: {error}", where=name) from error
    try:
        trial = try_history(document)
    except HistoryError as error:
        raise HistoryError(
            error.what, where=f"{name}: {error.where}", remedy=error.remedy
        ) from error
    for remark in trial.remarks:
        remarks.print(f"notice: {remark}", markup=False)
    print_json(trial.result)
