"""Values from outside the file: `${NAME}`, `${NAME:-default}`, and secrets in files of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gravity.config.problem import Problem, nearest_name
from gravity.config.tree import Tree

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

SECRET_BYTES_MAX = 65_536


def substitute(tree: Tree, env: Mapping[str, str]) -> list[Problem]:
    """Replaces every reference in the texts of `tree`, in place; returns what can't be replaced.

    `$${` stands for a literal `${`. A variable that is set but empty counts as unset where a
    default is given, as in a shell.
    """
    problems: list[Problem] = []
    for child in [*tree.items, *tree.mapping.values()]:
        problems += substitute(child, env)
    if not isinstance(tree.value, str) or "${" not in tree.value:
        return problems

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        parts = _NAME.fullmatch(match[1]) if match[1] is not None else None
        if parts is None:
            problems.append(Problem(tree.place, "write ${NAME} or ${NAME:-default}; $${ for text"))
            return ""
        name, default = parts[1], parts[2]
        value = env.get(name)
        if default is not None and not value:
            return default
        if value is None:
            problems.append(
                Problem(
                    tree.place,
                    f"environment variable {name} is not set; set it or write ${{{name}:-default}}",
                    nearest_name(name, tuple(env)),
                )
            )
            return ""
        tree.from_environment = True
        return value

    tree.value = _REFERENCE.sub(replacement, tree.value)
    return problems


def read_secret_files(tree: Tree, folder: Path) -> list[Problem]:
    """Replaces each `password-file: PATH` in `tree` by `password:` with the file's text.

    A path is relative to `folder`. One line end at the end of the file is not part of the secret.
    """
    problems: list[Problem] = []
    for child in [*tree.items, *tree.mapping.values()]:
        problems += read_secret_files(child, folder)
    file = tree.mapping.pop("password-file", None)
    if file is None:
        return problems
    if "password" in tree.mapping:
        problems.append(Problem(file.place, "give either password or password-file"))
        return problems
    # Put in even if unreadable, so that no second problem says the password is missing.
    secret = Tree(file.place, "", from_environment=True)
    tree.mapping["password"] = secret
    if not isinstance(file.value, str) or not file.value:
        problems.append(Problem(file.place, "must be the path of a file"))
        return problems
    path = folder / file.value
    try:
        with path.open("rb") as stream:
            content = stream.read(SECRET_BYTES_MAX + 1)
        text = content.decode()
    except OSError as error:
        problems.append(Problem(file.place, f"can't read {path}: {error.strerror}"))
        return problems
    except UnicodeDecodeError:
        problems.append(Problem(file.place, f"{path} is not text (UTF-8)"))
        return problems
    if len(content) > SECRET_BYTES_MAX:
        problems.append(Problem(file.place, f"{path} is larger than {SECRET_BYTES_MAX} bytes"))
    secret.value = text.removesuffix("\n").removesuffix("\r")
    if not secret.value:
        problems.append(Problem(file.place, f"{path} is empty"))
    return problems
