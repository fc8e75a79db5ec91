"""What the demo's applications do: fill the sources, then write to them while the copy runs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pymysql

from deploy.demo.servers import Servers
from tests.oracle.server import Address

_USERS = """CREATE TABLE users (
  id BIGINT UNSIGNED NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, email VARCHAR(100),
  balance DECIMAL(12,2) NOT NULL, status ENUM('active','idle','closed') NOT NULL, changed_at DATETIME(6)
) CHARACTER SET utf8mb4"""
_TABLES = {
    "user-master": [
        _USERS,
        """CREATE TABLE user_profiles (
  user_id BIGINT UNSIGNED NOT NULL PRIMARY KEY, bio TEXT, avatar BLOB, born DATE, score DOUBLE
) CHARACTER SET utf8mb4""",
    ],
    "order-db": [
        _USERS,
        """CREATE TABLE orders (
  id BIGINT NOT NULL PRIMARY KEY, user_id BIGINT UNSIGNED NOT NULL, amount DECIMAL(12,2) NOT NULL,
  status ENUM('new','paid','sent') NOT NULL, placed_at TIMESTAMP(3) NULL, note VARCHAR(200)
) CHARACTER SET utf8mb4""",
        """CREATE TABLE order_items (
  order_id BIGINT NOT NULL, line INT NOT NULL, product VARCHAR(40) NOT NULL, quantity SMALLINT UNSIGNED,
  PRIMARY KEY (order_id, line)
) CHARACTER SET utf8mb4""",
    ],
    "log-db": [
        """CREATE TABLE access_logs (
  id BIGINT NOT NULL PRIMARY KEY, log_level VARCHAR(8) NOT NULL, path VARCHAR(200) NOT NULL,
  took_ms INT, at DATETIME(3)
) CHARACTER SET utf8mb4""",
    ],
}
_LEVELS = ("INFO", "INFO", "INFO", "WARN", "ERROR")
_NAMES = ("Ada", "Grace", "张三", "李四", "Žofie", "O'Neill", "back\\slash")
_INSERT_ROWS = 500
_ROLLED_BACK = 0.05
"""Share of the transactions that change their mind."""
_USERS_SHARE = 0.6
"""Share of user-master's statements that concern users."""

Cursor = Any


def connect(address: Address, database: str | None = None) -> Any:
    """An application's connection; transactions are its own affair."""
    return pymysql.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        database=database,
        charset="utf8mb4",
        init_command="SET time_zone = '+00:00'",
    )


def fill(servers: Servers, rows: int, seed: int = 1) -> None:
    """Makes the tables and puts about `rows` rows into each of the larger ones."""
    chance = random.Random(seed)  # noqa: S311 - data of a demo
    for name, address in servers.sources.items():
        connection = connect(address)
        cursor = connection.cursor()
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS {servers.database} CHARACTER SET utf8mb4")
        cursor.execute(f"USE {servers.database}")
        for statement in _TABLES[name]:
            cursor.execute(statement)
        _FILL[name](cursor, rows, chance)
        connection.commit()
        connection.close()


def _insert(cursor: Cursor, table: str, rows: list[tuple[Any, ...]]) -> None:
    marks = ", ".join(["%s"] * len(rows[0]))
    for start in range(0, len(rows), _INSERT_ROWS):
        cursor.executemany(
            f"INSERT INTO {table} VALUES ({marks})", rows[start : start + _INSERT_ROWS]
        )


def _user(chance: random.Random, number: int, at: str) -> tuple[Any, ...]:
    name = chance.choice(_NAMES)
    balance = f"{chance.randrange(10**7) / 100:.2f}"
    status = chance.choice(("active", "idle", "closed"))
    return (number, name, chance.choice((None, f"{name}{number}@example.com")), balance, status, at)


_FILLED_AT = "2026-01-01 00:00:00.000001"


def _fill_users(cursor: Cursor, rows: int, chance: random.Random) -> None:
    _insert(cursor, "users", [_user(chance, n, _FILLED_AT) for n in range(1, rows + 1)])
    _insert(cursor, "user_profiles", [_profile(chance, n) for n in range(1, rows + 1)])


def _profile(chance: random.Random, number: int) -> tuple[Any, ...]:
    bio = chance.choice((None, "likes 漢字 & emoji 🙂", "two\nlines", ""))
    return (number, bio, chance.randbytes(8), chance.choice((None, "1999-12-31")), chance.random())


def _fill_orders(cursor: Cursor, rows: int, chance: random.Random) -> None:
    shared = range(1, rows + 1, 3)
    _insert(cursor, "users", [_user(chance, n, _FILLED_AT) for n in shared])
    _insert(cursor, "orders", [_order(chance, n, rows) for n in range(1, rows + 1)])
    lines = [(n, line) for n in range(1, rows + 1) for line in range(1, 1 + n % 3)]
    _insert(
        cursor,
        "order_items",
        [(n, line, f"product {line}", chance.randrange(9)) for n, line in lines],
    )


def _order(chance: random.Random, number: int, users: int) -> tuple[Any, ...]:
    return (
        number,
        chance.randint(1, users),
        f"{chance.randrange(10**6) / 100:.2f}",
        chance.choice(("new", "paid", "sent")),
        "2026-01-02 03:04:05.678",
        chance.choice((None, "gift", "")),
    )


def _log(chance: random.Random, number: int) -> tuple[Any, ...]:
    return (
        number,
        chance.choice(_LEVELS),
        f"/page/{chance.randrange(99)}",
        chance.randrange(900),
        "2026-01-03 00:00:00.5",
    )


def _fill_logs(cursor: Cursor, rows: int, chance: random.Random) -> None:
    _insert(cursor, "access_logs", [_log(chance, n) for n in range(1, rows + 1)])


_FILL: dict[str, Callable[[Cursor, int, random.Random], None]] = {
    "user-master": _fill_users,
    "order-db": _fill_orders,
    "log-db": _fill_logs,
}


class LiveLoad:
    """Applications writing to all sources at once, each in its own thread.

    Each waits `pause_s` between its transactions, and `rests` times as long as the last one took: a machine that
    is slow, or busy with other things, gets fewer.
    """

    def __init__(
        self,
        servers: Servers,
        rows: int,
        *,
        seconds: float,
        seed: int = 2,
        pause_s: float = 0.005,
        rests: float = 0.0,
    ) -> None:
        self._rows = rows
        self._pause_s = pause_s
        self._rests = rests
        self._database = servers.database
        self._seconds = seconds
        self.transactions = 0
        self.failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._write, args=(name, address, seed + index), daemon=True)
            for index, (name, address) in enumerate(servers.sources.items())
        ]
        self._stop = threading.Event()

    def start(self) -> None:
        """Begins to write."""
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        """Whether any application still writes."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Ends the writing after the transactions at hand."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _write(self, name: str, address: Address, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - data of a demo
        try:
            connection = connect(address, self._database)
            cursor = connection.cursor()
            deadline = time.monotonic() + self._seconds
            number = 0
            while not self._stop.is_set() and time.monotonic() < deadline:
                number += 1
                began_s = time.monotonic()
                for _ in range(chance.randint(1, 5)):
                    _STATEMENTS[name](cursor, chance, self._rows, number)
                if chance.random() < _ROLLED_BACK:
                    connection.rollback()
                else:
                    connection.commit()
                self.transactions += 1
                self._stop.wait(self._pause_s + self._rests * (time.monotonic() - began_s))
            connection.close()
        except BaseException as error:  # noqa: BLE001 - shown by the demo, in its own thread
            self.failures.append(error)


def _write_users(cursor: Cursor, chance: random.Random, rows: int, number: int) -> None:
    key = chance.randint(1, rows + rows // 5)
    match chance.randrange(6):
        case 0:
            cursor.execute("DELETE FROM users WHERE id = %s", (key,))
        case 1 | 2:
            cursor.execute(
                "UPDATE users SET balance = balance + 1.01, changed_at = NOW(6) WHERE id BETWEEN %s AND %s",
                (key, key + 2),
            )
        case 3:
            cursor.execute("UPDATE IGNORE users SET id = id + %s WHERE id = %s", (10 * rows, key))
        case _:
            row = _user(chance, key, "2026-02-01 00:00:00")
            cursor.execute(
                "INSERT INTO users VALUES (%s, %s, %s, %s, %s, %s) ON DUPLICATE KEY UPDATE"
                " name = VALUES(name), balance = VALUES(balance), changed_at = NOW(6)",
                row,
            )
    del number


def _write_user_master(cursor: Cursor, chance: random.Random, rows: int, number: int) -> None:
    if chance.random() < _USERS_SHARE:
        _write_users(cursor, chance, rows, number)
    else:
        cursor.execute(
            "REPLACE INTO user_profiles VALUES (%s, %s, %s, %s, %s)",
            _profile(chance, chance.randint(1, rows)),
        )


def _write_order_db(cursor: Cursor, chance: random.Random, rows: int, number: int) -> None:
    key = chance.randint(1, rows)
    match chance.randrange(7):
        case 0 | 1:
            _write_users(cursor, chance, rows, number)
        case 2:
            cursor.execute(
                "UPDATE orders SET status = 'paid', amount = amount + 0.50 WHERE id = %s", (key,)
            )
        case 3:
            cursor.execute("DELETE FROM orders WHERE id = %s", (key,))
            cursor.execute("DELETE FROM order_items WHERE order_id = %s", (key,))
        case 4:
            cursor.execute(
                "UPDATE order_items SET quantity = quantity + 1 WHERE order_id = %s", (key,)
            )
        case _:
            order = rows + number
            cursor.execute(
                "REPLACE INTO orders VALUES (%s, %s, %s, %s, %s, %s)", _order(chance, order, rows)
            )
            cursor.execute(
                "REPLACE INTO order_items VALUES (%s, 1, 'live', %s)", (order, number % 9)
            )


def _write_log_db(cursor: Cursor, chance: random.Random, rows: int, number: int) -> None:
    match chance.randrange(4):
        case 0:
            # Moves the row from one target to another, or away from both.
            cursor.execute(
                "UPDATE access_logs SET log_level = %s WHERE id = %s",
                (chance.choice(_LEVELS), chance.randint(1, rows)),
            )
        case 1:
            cursor.execute("DELETE FROM access_logs WHERE id = %s", (chance.randint(1, rows),))
        case _:
            cursor.execute(
                "REPLACE INTO access_logs VALUES (%s, %s, %s, %s, %s)",
                _log(chance, rows + 7 * number + chance.randrange(7)),
            )


_STATEMENTS: dict[str, Callable[[Cursor, random.Random, int, int], None]] = {
    "user-master": _write_user_master,
    "order-db": _write_order_db,
    "log-db": _write_log_db,
}
