"""Reads a configuration file, or says everything that is wrong with it at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gravity.config.document import Config
from gravity.config.environment import read_secret_files, substitute
from gravity.config.explain import explain
from gravity.config.inactive import inactive_notices
from gravity.config.problem import ConfigError, Notice, Place, Problem
from gravity.config.reference import check_names
from gravity.config.spelling import Speller
from gravity.config.tree import read_tree

FILE_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration and what its user should know about it, in file order."""

    config: Config
    notices: tuple[Notice, ...]


def load_config(path: Path, env: Mapping[str, str] | None = None) -> LoadedConfig:
    """The configuration in the file `path`. `env` gives `${NAME}`; None = this process's own.

    Raises:
        ConfigError: with every problem of the file, each with line, key and nearest known name.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
        text = content.decode()
    except OSError as error:
        place = Place(str(path), 0, 0, "")
        raise ConfigError([Problem(place, f"can't be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        place = Place(str(path), 0, 0, "")
        raise ConfigError([Problem(place, f"is not UTF-8 at byte {error.start}")]) from error
    if len(content) > FILE_BYTES_MAX:
        place = Place(str(path), 0, 0, "")
        raise ConfigError([Problem(place, f"is larger than {FILE_BYTES_MAX} bytes")])
    return parse_config(text, str(path), folder=path.parent, env=env)


def parse_config(
    text: str,
    file: str = "configuration",
    *,
    folder: Path = Path(),
    env: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """The configuration that the YAML `text` says; `file` is what problems call it.

    Secret files are looked up from `folder`.

    Raises:
        ConfigError: with every problem of the text.
    """
    tree, problems = read_tree(text, file)
    speller = Speller()
    tree = speller.unwrap(tree)
    speller.default_brokers(tree)
    problems += substitute(tree, os.environ if env is None else env)
    speller.normalise(tree)
    problems += speller.problems
    problems += read_secret_files(tree, folder)
    problems += check_names(tree)
    config: Config | None = None
    try:
        config = Config.model_validate(tree.plain(), by_alias=True, by_name=False)
    except ValidationError as error:
        problems += explain(error, Config, tree)
    if problems or config is None:
        # Outside of `except`, so that it does not carry pydantic's error, which holds the secrets.
        raise ConfigError(problems)
    notices = [*speller.notices, *inactive_notices(tree)]
    return LoadedConfig(config, tuple(sorted(set(notices))))
