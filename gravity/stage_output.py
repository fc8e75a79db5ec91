"""What a stage prints, as a reader wants it, and what its last words say. Pure."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

_LAST_WORDS = frozenset({"halted", "crashed", "fenced"})
_OWN_FIELDS = frozenset({"stage", "event", "level", "timestamp", "exception"})
_LINES_KEPT = 5
_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What programs send to a terminal to hide its cursor and the like; Faust does so into a pipe, too."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stage ended, by its own account."""

    error: str
    """The error's class; empty when only loose text is known."""
    reason: str


class StageOutput:
    """The lines of one stage. Log events are recognised; anything else is passed on as text."""

    def __init__(self, stage: str, *, as_json: bool) -> None:
        self._stage = stage
        self._as_json = as_json
        self._ending: Ending | None = None
        self._loose: deque[str] = deque(maxlen=_LINES_KEPT)

    def begin(self) -> None:
        """The stage has been started anew."""
        self._ending = None
        self._loose.clear()

    @property
    def ending(self) -> Ending | None:
        """The last words; the last loose lines when there were none, such as Python's own complaint."""
        if self._ending is None and self._loose:
            return Ending("", " / ".join(self._loose))
        return self._ending

    def line(self, raw: bytes) -> str | None:
        """One line of output as it is to be shown: JSON, or text behind the stage's name. None: not at all."""
        text = _TERMINAL_CODE.sub("", raw.decode(errors="replace")).rstrip("\r")
        event = _event(text)
        if event is None:
            if not text.strip():
                return None
            self._loose.append(text.strip())
            if self._as_json:
                return json.dumps({"stage": self._stage, "event": "said", "text": text})
            return f"{self._stage:<15} | {text}"
        if event.get("event") in _LAST_WORDS:
            self._ending = Ending(str(event.get("error", "")), str(event.get("reason", "")))
        return text if self._as_json else f"{self._stage:<15} | {_readable(event)}"


def _event(text: str) -> Mapping[str, object] | None:
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "event" in found else None


def _readable(event: Mapping[str, object]) -> str:
    time = str(event.get("timestamp", ""))[11:19]
    fields = " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in event.items()
        if name not in _OWN_FIELDS
    )
    level = str(event.get("level", "info"))
    mark = "" if level == "info" else f"{level.upper()} "
    text = f"{time} {mark}{event['event']} {fields}".rstrip()
    trace = event.get("exception")
    return f"{text}\n{trace}" if trace else text
