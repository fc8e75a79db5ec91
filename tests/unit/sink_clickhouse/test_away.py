"""A server that is away is told of once, in our words."""

from __future__ import annotations

import logging

import pytest
from gravity_devstack.port import free_port
from gravity_sink_clickhouse.writer import Server

from gravity.config.target import ClickhouseTarget
from gravity.errors import TransientError


def test_the_libraries_below_say_nothing_of_a_server_that_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = ClickhouseTarget(name="lake", host="127.0.0.1", port=free_port())
    with pytest.raises(TransientError, match="is the server up") as caught:
        Server(target)
    assert "target lake" in str(caught.value)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
