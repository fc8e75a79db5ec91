"""`gravity validate` and `gravity schema`: what a configuration may say, and what one says."""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gravity.cli.option import (
    EXIT_BAD_CONFIG,
    AsJson,
    ConfigFile,
    plural,
    print_json,
    read_config,
    screen,
)
from gravity.config import Config, ConfigError, LoadedConfig, Notice, Place, Problem
from gravity.config.problem import did_you_mean
from gravity.config.route import Route, RoutingRule
from gravity.errors import FatalError
from gravity.plan_compiler import compile_plan

CONFIG_SCHEMA = "config"


def validate(config: ConfigFile, as_json: AsJson = False) -> None:
    """Check a configuration file without connecting to anything.

    Prints every problem with its line, and notices about parts that have no effect yet. A routing plan is made
    of it, for no table yet: what `gravity run` would refuse whatever tables there are is a problem, too.
    """
    try:
        loaded = read_config(config, quiet=as_json)
        problems, notices = _problems_of_plan(config, loaded), loaded.notices
    except ConfigError as error:
        problems, notices, loaded = list(error.problems), (), None
    if loaded is None or problems:
        if as_json:
            shown = [_problem_json(problem) for problem in problems]
            print_json(
                {"valid": False, "problems": shown, "notices": [_notice_json(n) for n in notices]}
            )
        for problem in () if as_json else problems:
            sys.stderr.write(f"error: {problem}\n")
        raise typer.Exit(EXIT_BAD_CONFIG)
    gaps, doubts = _gaps(loaded), _doubts(loaded.config)
    if not as_json:
        screen.print(f"[green]valid[/]: {_summary(loaded)}")
        for text in (*gaps, *doubts):
            screen.print(f"[yellow]before `gravity run`[/]: {escape(text)}", markup=True)
        return
    print_json(
        {
            "valid": True,
            "runnable": not gaps,
            "problems": [],
            "notices": [_notice_json(n) for n in notices],
            "doubts": doubts,
            "sources": [source.name for source in loaded.config.sources],
            "targets": [{"name": t.name, "type": t.type} for t in loaded.config.targets],
        }
    )


def _problems_of_plan(path: Path, loaded: LoadedConfig) -> list[Problem]:
    """Why the configuration makes no plan, whatever tables its sources have."""
    try:
        compile_plan(loaded.config, [])
    except FatalError as error:
        return [Problem(Place(str(path), 0, 0, error.where), f"{error.what} — {error.remedy}")]
    return []


def _doubts(config: Config) -> list[str]:
    """What only the sources' tables can decide."""
    rules: list[tuple[str, Route | RoutingRule]] = [
        *((", ".join(route.source_tables), route) for route in config.routing),
        *((rule.name, rule) for rule in config.routing_rules),
    ]
    names = [source.name for source in config.sources]
    return [
        f"append-only ({text}) is refused where several of {', '.join(rule.sources or names)} have the table: "
        "`gravity plan CONFIG --connect` asks them"
        for text, rule in rules
        if rule.append_only and len(rule.sources or names) > 1
    ]


def _summary(loaded: LoadedConfig) -> str:
    config = loaded.config
    parts = [
        plural(len(config.sources), "source"),
        plural(len(config.targets), "target"),
        plural(
            len(config.routing) + len(config.distribution_rules) + len(config.routing_rules), "rule"
        )
        + " about where rows go",
        plural(len(config.conflict_resolution.rules), "rule") + " about conflicts",
    ]
    return ", ".join(parts)


def _gaps(loaded: LoadedConfig) -> list[str]:
    """What is still missing before the pipeline can run."""
    try:
        loaded.config.require_runnable()
    except ConfigError as error:
        return [f"{problem.place.key} {problem.message}" for problem in error.problems]
    return []


def _problem_json(problem: Problem) -> dict[str, object]:
    return {
        "file": problem.place.file,
        "line": problem.place.line,
        "key": problem.place.key,
        "message": problem.message,
        "nearest": problem.nearest,
    }


def _notice_json(notice: Notice) -> dict[str, object]:
    place = notice.place
    return {"file": place.file, "line": place.line, "key": place.key, "message": notice.message}


def schema(
    name: Annotated[
        str | None, typer.Argument(help="Which one; left out: the list of them.", metavar="NAME")
    ] = None,
) -> None:
    """Print a contract: what is in the messages, or what a configuration may hold.

    `config` is the JSON schema of the configuration file, for editors; all others are the Avro
    schemas of message values.
    """
    folder = resources.files("gravity").joinpath("schemas")
    avro = {
        entry.name.removesuffix(".avsc"): entry
        for entry in folder.iterdir()
        if entry.name.endswith(".avsc")
    }
    names = [CONFIG_SCHEMA, *sorted(avro)]
    if name is None:
        for known in names:
            doc = (
                "JSON schema of the configuration file, for editors."
                if known == CONFIG_SCHEMA
                else json.loads(avro[known].read_text(encoding="utf-8")).get("doc", "")
            )
            screen.print(f"{known:<15} {doc}", markup=False)
    elif name == CONFIG_SCHEMA:
        from gravity.config.schema import editor_schema

        sys.stdout.write(json.dumps(editor_schema(), indent=2, ensure_ascii=False) + "\n")
    elif name in avro:
        sys.stdout.write(avro[name].read_text(encoding="utf-8"))
    else:
        raise typer.BadParameter(
            f"no contract is called {name}{did_you_mean(name, names)}; "
            f"known are: {', '.join(names)}"
        )
