"""Two servers, one replicating the other by GTID, set up by SQL alone."""

from __future__ import annotations

from typing import Any

from gravity_devstack.database import DatabaseServer


class ReplicaPair:
    """`primary` and `replica`; `promote` ends the replication."""

    def __init__(self, primary: DatabaseServer, replica: DatabaseServer) -> None:
        self.primary, self.replica = primary, replica
        for server in (primary, replica):
            if not server.alive:
                server.start()
            self._run(server, "STOP SLAVE", "RESET SLAVE ALL", "RESET MASTER")
        how = "MASTER_AUTO_POSITION = 1, GET_MASTER_PUBLIC_KEY = 1"
        if replica.flavor == "mariadb":
            self._run(replica, "SET GLOBAL gtid_slave_pos = ''")
            how = "MASTER_USE_GTID = slave_pos, MASTER_SSL = 0, MASTER_SSL_VERIFY_SERVER_CERT = 0"
        self._run(
            replica,
            f"CHANGE MASTER TO MASTER_HOST = '{primary.host}', MASTER_PORT = {primary.port},"
            f" MASTER_USER = 'gravity', MASTER_PASSWORD = 'gravity-dev', MASTER_CONNECT_RETRY = 1, {how}",
            "START SLAVE",
        )

    @property
    def hosts(self) -> str:
        return ", ".join(f'"{s.host}:{s.port}"' for s in (self.primary, self.replica))

    def wait_replicated(self) -> None:
        """Returns when the replica has all that the primary has committed."""
        if self.primary.flavor == "mariadb":
            executed = self._run(self.primary, "SELECT @@GLOBAL.gtid_binlog_pos")[0][0]
            waited = self._run(self.replica, f"SELECT MASTER_GTID_WAIT('{executed}', 60)")
        else:
            executed = self._run(self.primary, "SELECT @@GLOBAL.gtid_executed")[0][0]
            executed = executed.replace("\n", "")
            waited = self._run(self.replica, f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 60)")
        assert waited[0][0] == 0, f"the replica did not follow: {waited}"

    def pause(self) -> None:
        """What the primary commits from now on does not reach the replica."""
        self._run(self.replica, "STOP SLAVE")

    def promote(self) -> None:
        self._run(self.replica, "STOP SLAVE", "RESET SLAVE ALL")

    @staticmethod
    def _run(server: DatabaseServer, *statements: str) -> list[Any]:
        with server.connect() as client, client.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())
