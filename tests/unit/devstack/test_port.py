"""Ports: free, on loopback, never given twice."""

import socket

import pytest
from gravity_devstack.port import LOOPBACK, RANGE, free_port, is_free, release


def test_no_port_is_given_twice() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)
    assert all(port in RANGE for port in ports)


def test_a_port_in_use_is_not_given_even_when_wished() -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        taken = listener.getsockname()[1]
        assert not is_free(taken)
        assert free_port(taken) != taken


def test_a_released_port_is_given_again_when_wished() -> None:
    port = free_port()
    assert free_port(port) != port
    release(port)
    assert free_port(port) == port


def test_a_full_range_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gravity_devstack.port.is_free", lambda _port: False)
    with pytest.raises(RuntimeError, match="no free TCP port"):
        free_port()
