"""`gravity serve` and `gravity wait`: addresses and times as they are written."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import typer

from gravity.cli.wait import listening_at
from tests.unit.cli.test_commands import GOOD, gravity, written


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9000", ("127.0.0.1", 9000)),
        ("localhost", ("localhost", 8430)),
        ("0.0.0.0:9000", ("0.0.0.0", 9000)),
        ("[::1]:9000", ("::1", 9000)),
    ],
)
def test_a_port_alone_is_one_of_this_machine(text: str, address: tuple[str, int]) -> None:
    assert listening_at(text) == address


@pytest.mark.parametrize("text", ["", "70000", "0", "a:b:c d", "localhost:70000"])
def test_an_address_that_is_none_is_refused_by_the_option_s_name(text: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        listening_at(text)
    assert caught.value.param_hint == "--listen"


def test_an_address_that_is_taken_is_never_announced(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = gravity("serve", written(tmp_path, GOOD), "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 78
    assert "can't listen" in done.stderr
    assert "POST http" not in done.stderr


def test_a_time_that_is_none_is_refused_by_the_option_s_name(tmp_path: Path) -> None:
    done = gravity(
        "wait", written(tmp_path, GOOD), "--source", "east", "--target", "lake", "--timeout", "soon"
    )
    assert done.returncode == 2
    assert "--timeout" in done.stderr
