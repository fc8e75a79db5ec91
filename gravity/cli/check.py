"""`gravity check`: asks every server whether the pipeline will work with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from gravity.cli.option import (
    EXIT_FAILED,
    AsJson,
    ConfigFile,
    plural,
    print_json,
    read_config,
    screen,
)

if TYPE_CHECKING:
    from gravity.check.finding import Finding

_COLOUR = {"pass": "green", "warn": "yellow", "fail": "bold red"}


def check(config: ConfigFile, *, as_json: AsJson = False) -> None:
    """Check every server: whether it can be reached, is set as needed and grants what is needed.

    Asks Kafka, all sources and all targets, changes nothing, and says for each failure what to do.
    Ends with exit code 1 if any check fails.
    """
    from gravity.check.finding import Verdict
    from gravity.check.installation import check_installation

    loaded = read_config(config, quiet=as_json)
    findings = check_installation(loaded.config)
    failures = [finding for finding in findings if finding.verdict is Verdict.FAIL]
    if as_json:
        print_json({"ok": not failures, "findings": [finding.to_json() for finding in findings]})
    else:
        screen.print(chart(findings))
        warnings = sum(finding.verdict is Verdict.WARN for finding in findings)
        screen.print(
            f"{plural(len(findings), 'check')}, {plural(warnings, 'warning')}, "
            f"{plural(len(failures), 'failure')}"
        )
    if failures:
        raise typer.Exit(EXIT_FAILED)


def chart(findings: Sequence[Finding]) -> Table:
    """The findings as a table; remedies stand where something is to be done."""
    table = Table()
    for name in ("server", "check", "", "found", "what to do"):
        # Words that are broken can be read; words that are cut off can't.
        table.add_column(name, overflow="fold", no_wrap=not name)
    part = ""
    for finding in findings:
        if part and finding.part != part:
            table.add_section()
        colour = _COLOUR[finding.verdict]
        table.add_row(
            escape(finding.part) if finding.part != part else "",
            escape(finding.what),
            f"[{colour}]{finding.verdict}[/]",
            escape(finding.detail),
            escape(finding.remedy),
        )
        part = finding.part
    return table
