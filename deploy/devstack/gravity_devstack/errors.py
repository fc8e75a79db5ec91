"""What can go wrong with a stack, told so that the reader knows what to do next.

DevstackError
├── FetchError    something could not be downloaded, or is not what it should be
├── StartError    a server or a one-off program did not do what it was started for
└── Unavailable   this machine cannot have that server at all; tests skip on it
"""

from __future__ import annotations


class DevstackError(Exception):
    """A failure with its place and its remedy; `str()` gives all three, one per line."""

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        """Keeps the parts apart, so that a caller may show only some of them."""
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        """The three parts as lines for a person."""
        return f"{self.what}\n  where: {self.where}\n  to do: {self.remedy}"


class FetchError(DevstackError):
    """A download failed, or its bytes differ from the committed hash."""


class StartError(DevstackError):
    """A server did not come up, or a preparing step ended badly."""


class Unavailable(DevstackError):  # noqa: N818  It states a fact about the machine, not a fault.
    """The machine lacks what the server needs, and no retry will change that."""
