"""`gravity validate` and `gravity schema`: what a configuration may say, and what one says."""

from __future__ import annotations

import json
import sys
from importlib import resources
from typing import Annotated

import typer

from gravity.cli.option import (
    EXIT_BAD_CONFIG,
    AsJson,
    ConfigFile,
    plural,
    print_json,
    read_config,
    screen,
)
from gravity.config import ConfigError, LoadedConfig, Notice, Problem
from gravity.config.problem import nearest_name

CONFIG_SCHEMA = "config"


def validate(config: ConfigFile, as_json: AsJson = False) -> None:
    """Check a configuration file without connecting to anything.

    Prints every problem with its line, and notices about parts that have no effect yet.
    """
    if not as_json:
        loaded = read_config(config)
        screen.print(f"[green]valid[/]: {_summary(loaded)}")
        for problem in _gaps(loaded):
            screen.print(f"[yellow]before `gravity run`[/]: {problem}", markup=True)
        return
    try:
        loaded = read_config(config, quiet=True)
    except ConfigError as error:
        print_json(
            {"valid": False, "problems": [_problem_json(p) for p in error.problems], "notices": []}
        )
        raise typer.Exit(EXIT_BAD_CONFIG) from None
    print_json(
        {
            "valid": True,
            "runnable": not _gaps(loaded),
            "problems": [],
            "notices": [_notice_json(n) for n in loaded.notices],
            "sources": [source.name for source in loaded.config.sources],
            "targets": [{"name": t.name, "type": t.type} for t in loaded.config.targets],
        }
    )


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
        guess = nearest_name(name, names)
        raise typer.BadParameter(
            f"no contract is called {name}{f' (did you mean {guess}?)' if guess else ''}; "
            f"known are: {', '.join(names)}"
        )
