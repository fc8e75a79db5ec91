"""The wall clock. The only module that reads it; cores are given times as values."""

from __future__ import annotations

import time


def now_us() -> int:
    """Microseconds since 1970 UTC by this machine's clock."""
    return time.time_ns() // 1000


def monotonic_s() -> float:
    """Seconds by a clock that never goes back; for waiting and measuring only."""
    return time.monotonic()
