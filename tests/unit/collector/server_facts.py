"""The facts of a server that is set as a source must be."""

from __future__ import annotations

from gravity_collector.server import ServerFacts


def facts(server_id: int = 1, flavor: str = "mariadb", **changed: object) -> ServerFacts:
    settings: dict[str, object] = {
        "flavor": flavor, "version": "11.4.5-MariaDB", "server_uuid": "", "server_id": server_id,
        "log_bin": True, "binlog_format": "ROW", "binlog_row_image": "FULL",
        "binlog_row_metadata": "FULL", "binlog_row_value_options": "",
        "gtid_mode": "ON", "file_name": "b.000001", "next_offset": 4, "gtid_set": "",
        "gtid_purged": "", "collations": {}, **changed,
    }  # fmt: skip
    return ServerFacts(**settings)  # type: ignore[arg-type]
