"""Free TCP ports on loopback."""

from __future__ import annotations

import random
import socket
import threading

LOOPBACK = "127.0.0.1"

# Below the kernel's usual range for outgoing connections (32768 and up): a port that is free now
# will not be taken by some client's connection before our server binds it.
RANGE = range(20_000, 32_000)

_given: set[int] = set()
_turn = threading.Lock()


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now; one in TIME_WAIT counts as free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(wished: int | None = None) -> int:
    """A port nobody listens on, never given twice by this process; `wished` if that is free.

    Raises:
        RuntimeError: the whole range is in use.
    """
    with _turn:
        candidates = random.sample(RANGE, len(RANGE))
        for port in ([wished] if wished else []) + candidates:
            if port not in _given and is_free(port):
                _given.add(port)
                return port
    message = f"no free TCP port between {RANGE.start} and {RANGE.stop} on {LOOPBACK}"
    raise RuntimeError(message)


def release(port: int) -> None:
    """Lets `free_port` give `port` again."""
    with _turn:
        _given.discard(port)
