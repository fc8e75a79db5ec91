"""The watch over the targets' progress: whatever ends it, the source's own thread hears of it."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from gravity_collector.frontier_watch import FrontierWatch

from gravity.config import parse_config

CONFIG = parse_config(
    "sources: [{name: s, host: h}]\ntargets: [{name: t, type: mysql, host: h}]", env={}
).config


def test_a_record_that_makes_no_sense_ends_the_source_and_not_only_the_watch() -> None:
    class Nonsense:
        def __init__(self, *_: object) -> None:
            pass

        def records(self, _timeout_s: float) -> list[Any]:
            return [("sink/t/0", {"frontier": "none"})]

        def close(self) -> None:
            pass

    watch = FrontierWatch(CONFIG, "s", ("t",))
    with patch("gravity_collector.frontier_watch.ProgressFollower", Nonsense):
        watch.start()
        watch.join(20)
    assert not watch.is_alive()
    assert "can't be followed" in str(watch.failure)
    watch.end()
