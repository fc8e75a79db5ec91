"""The runner as a program: nothing is left behind it, and its second start needs no network."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
import pytest
from gravity_devstack import Stack

from gravity.testing.waiting import wait_until

UP = (sys.executable, "-m", "gravity_devstack", "up", "--json")
SERVERS = ("--kafka", "--mariadb", "user-master", "--mysql", "order-db", "--clickhouse")
DEADLINE_S = 60.0

PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
NO_NETWORK = dict.fromkeys(PROXIES, "http://127.0.0.1:9")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@contextmanager
def runner(*arguments: str, tmp: Path, **env: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """The program with its temporary folders under `tmp`, and the addresses it printed."""
    tmp.mkdir(exist_ok=True)
    with subprocess.Popen(
        [*UP, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env, "TMPDIR": str(tmp)},
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line, "the runner ended without printing addresses"
            yield process, json.loads(line)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    with runner(*SERVERS, tmp=tmp_path) as (process, addresses):
        pids = [address["pid"] for address in addresses.values()]
        assert len(pids) == 4
        assert all(map(is_running, pids))
        process.send_signal(number)
        process.wait(DEADLINE_S)
    wait_until(lambda: not any(map(is_running, pids)), what="all servers are gone")
    wait_until(lambda: not list(tmp_path.iterdir()), what="the temporary folder is empty")


def test_a_second_start_needs_no_network(stack: Stack, tmp_path: Path) -> None:
    assert stack.servers, "the first start, which filled the cache"
    with runner(*SERVERS, tmp=tmp_path, **NO_NETWORK) as (_, addresses):
        assert set(addresses) == {"kafka", "mariadb:user-master", "mysql:order-db", "clickhouse"}


def test_a_first_start_without_network_is_told_in_words(tmp_path: Path) -> None:
    done = subprocess.run(
        [*UP, "--mariadb", "user-master"],
        env={**os.environ, **NO_NETWORK, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot download" in done.stderr
    assert "to do:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_named_folder_keeps_data_and_ports(tmp_path: Path) -> None:
    folder, ports = tmp_path / "kept", []
    for start in range(2):
        with Stack(folder) as stack:
            servers = [stack.mariadb("user-master"), stack.mysql("order-db")]
            for server in servers:
                with server.connect() as connection, connection.cursor() as cursor:
                    if start == 0:
                        cursor.execute("CREATE DATABASE kept")
                    cursor.execute("SHOW DATABASES LIKE 'kept'")
                    assert cursor.fetchall() == (("kept",),)
            ports.append([server.port for server in servers])
    assert ports[0] == ports[1]


def test_leaving_the_block_by_an_error_ends_the_servers() -> None:
    def fail_inside() -> None:
        with Stack() as stack:
            seen["server"], seen["folder"] = stack.mariadb("user-master"), stack.folder
            seen["pid"] = seen["server"].pid
            raise ZeroDivisionError

    seen: dict[str, Any] = {}
    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert not is_running(seen["pid"])
    assert not seen["folder"].exists()
    with pytest.raises(pymysql.err.OperationalError):
        seen["server"].connect()


def test_this_run_used_the_default_temporary_folder_only(stack: Stack) -> None:
    assert stack.folder.parent == Path(tempfile.gettempdir())
