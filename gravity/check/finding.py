"""What a check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from gravity.errors import GravityError


class Verdict(StrEnum):
    """What a finding means for the pipeline."""

    PASS = "pass"  # noqa: S105 - a verdict
    WARN = "warn"
    """It will run, but perhaps not as expected."""
    FAIL = "fail"
    """It will not run, or not truthfully."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer about one server."""

    part: str
    """Such as `source user-master` or `kafka`."""
    what: str
    """Such as `binlog_row_image`."""
    verdict: Verdict
    detail: str
    """What is the case."""
    remedy: str = ""
    """What to do; empty when nothing needs to be done."""

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Findings:
    """Makes the findings about one part."""

    part: str

    def good(self, what: str, detail: str = "") -> Finding:
        """All is well."""
        return Finding(self.part, what, Verdict.PASS, detail)

    def doubtful(self, what: str, detail: str, remedy: str) -> Finding:
        """It will run, but perhaps not as expected."""
        return Finding(self.part, what, Verdict.WARN, detail, remedy)

    def bad(self, what: str, detail: str, remedy: str) -> Finding:
        """It will not run."""
        return Finding(self.part, what, Verdict.FAIL, detail, remedy)

    def error(self, what: str, error: GravityError) -> Finding:
        """It failed with an error that names its remedy."""
        place = error.where.removeprefix(self.part).lstrip(", ")
        detail = f"{error.what} [{place}]" if place else error.what
        return Finding(self.part, what, Verdict.FAIL, detail, error.remedy)
