"""What can be wrong with a configuration, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gravity.errors import FatalError, GravityError


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A spot in a configuration file: `line` and `column` count from 1, 0 = unknown.

    `key` is the path of keys as the user wrote them, such as `gravity.sources[0].port`.
    """

    file: str
    line: int
    column: int
    key: str

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        key = f": {self.key}" if self.key else ""
        return f"{self.file}{line}{key}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One reason why a configuration can't be used. Its text is one line."""

    place: Place
    message: str
    nearest: str = ""
    """The known name the user most likely meant; empty if nothing is near."""

    def __str__(self) -> str:
        guess = f" (did you mean {self.nearest}?)" if self.nearest else ""
        return f"{self.place}: {self.message}{guess}"


@dataclass(frozen=True, slots=True, order=True)
class Notice:
    """Something the user should know about a configuration that loads all the same."""

    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class ConfigError(FatalError):
    """The configuration can't be used. `problems` holds every reason, in file order.

    The text is one problem per line. It never holds the value of a secret.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest_name(name: str, known: Sequence[str]) -> str:
    """The member of `known` that is most like `name`, or "" if none is near."""
    folded = {candidate.casefold(): candidate for candidate in reversed(known)}
    matches = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else ""


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The end of a sentence that says that `name` is unknown: a guess, or nothing."""
    nearest = nearest_name(name, known)
    return f" (did you mean {nearest}?)" if nearest else ""


def require_declared(
    kind: str, name: str, declared: Sequence[str], error: type[GravityError]
) -> None:
    """Raises `error` for a name, of a source or another `kind` of part, that no configuration declares."""
    if name not in declared:
        raise error(
            f"no {kind} is called {name[:100]!r}{did_you_mean(name, declared)}",
            remedy=f"declared are: {', '.join(declared) or 'none'}",
        )
