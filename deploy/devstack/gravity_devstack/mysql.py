"""MySQL 8.0.15 from a Maven artifact, and 9.7 from Debian's packages with their own C library."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from gravity_devstack.apt import Apt, apt_present, fetch_packages, unpack_first
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
from gravity_devstack.errors import StartError, Unavailable
from gravity_devstack.server import Command, Home

LIBRARIES = {"libaio.so.1": ("libaio1", "libaio1t64"), "libnuma.so.1": ("libnuma1",)}
"""What mysqld 8.0.15 links, and the packages that may hold it (Debian 13 renamed the first)."""

SID_PACKAGES = ("mysql-server-core", "mysql-client-core")
SID_NEEDLESS = ("perl", "gdbm", "db5.3", "gconv", "-base", "legacy")
SID_PREFIX = "usr/lib/x86_64-linux-gnu"

PLAIN_FILES = "--innodb-use-native-aio=OFF"
"""A machine grants so many asynchronous requests to all processes together; a server that gets none won't start."""
SOURCE_OPTIONS = ("--mysqlx=OFF", "--gtid-mode=ON", "--enforce-gtid-consistency=ON")


class MysqlRelease(Release):
    """One version of MySQL: where its program comes from and which options it needs."""

    storage_options: Sequence[str]
    extra_options: Sequence[str] = ()

    def template(self) -> Path:
        """An initialised data folder with our user, made on the first call ever."""
        program = self.program()
        options = [*STORAGE_OPTIONS, *self.storage_options]

        def build(folder: Path) -> None:
            script = folder / "users.sql"
            script.write_text("\n".join([*CREATE_USER, ""]))
            with self.reporter.step(f"initialise mysql {self.version}"):
                self.guardian.run(
                    [
                        *program.argv,
                        *("--initialize-insecure", f"--init-file={script}"),
                        f"--datadir={folder / 'data'}",
                        *user_options(),
                        *options,
                    ],
                    log=folder / "initialise.log",
                    cwd=folder,
                    env=program.env,
                )
            # The server's identity: a copy must invent its own.
            (folder / "data/auto.cnf").unlink(missing_ok=True)

        return cached_template(f"mysql-{self.version}", [*options, *CREATE_USER], build)


class Mysql8(MysqlRelease):
    """The 8.0.15 that a Maven artifact for tests carries."""

    version = "8.0.15"
    storage_options = ("--innodb-log-file-size=16M", PLAIN_FILES)
    extra_options = ("--binlog-format=ROW", "--default-authentication-plugin=caching_sha2_password")

    def program(self) -> Command:
        """mysqld, with the folder of borrowed libraries where the machine lacks them."""
        need_linux_x86_64("MySQL")
        root = fetch("mysql", self.reporter, _unpack_mysql8)
        libraries = self._libraries()
        env = {"LD_LIBRARY_PATH": str(libraries)} if libraries else {}
        argv = [str(root / "bin/mysqld"), "--no-defaults", f"--basedir={root}"]
        return Command(argv, env)

    def _libraries(self) -> Path | None:
        """A cache folder with the libraries that the machine lacks, or None if it has all."""
        missing = missing_libraries()
        if not missing:
            return None
        names = ", ".join(LIBRARIES[name][0] for name in missing)
        if not apt_present():
            raise Unavailable(
                f"MySQL 8.0.15 needs {' and '.join(missing)}",
                where="the linker's cache (ldconfig -p) of this machine",
                remedy=f"install the system's package of {names}",
            )

        def build(folder: Path) -> None:
            with self.reporter.step(f"fetch {names}"):
                try:
                    self._borrow(missing, folder)
                except StartError as error:
                    raise Unavailable(
                        f"MySQL 8.0.15 needs {' and '.join(missing)}, apt did not bring them\n"
                        f"{error.what}",
                        where=error.where,
                        remedy=f"apt-get install {names}, or repair apt's sources",
                    ) from error

        return made_once(f"mysql-libraries-{'-'.join(missing)}", build)

    def _borrow(self, missing: Sequence[str], folder: Path) -> None:
        apt = Apt(folder / "apt", self.guardian)
        apt.update()
        for name in missing:
            unpack_first(apt, LIBRARIES[name], folder / "root")
            # The 64-bit-time package names its file libaio.so.1t64; only the name differs here.
            found = next((folder / "root").rglob(f"{name}*"))
            shutil.copy(found, folder / name)
        shutil.rmtree(folder / "apt")
        shutil.rmtree(folder / "root")


def missing_libraries() -> list[str]:
    """Which of `LIBRARIES` the machine's linker does not find."""
    ldconfig = shutil.which("ldconfig", path="/usr/sbin:/sbin:/usr/bin:/bin") or "ldconfig"
    known = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout
    return [name for name in LIBRARIES if f"\t{name} " not in known]


def _unpack_mysql8(folder: Path) -> None:
    """The Linux archive inside the jar; the one for another system is dropped."""
    jar = next(folder.glob("*.jar"))
    archive = "mysql-Linux-amd64.tar.gz"
    with zipfile.ZipFile(jar) as outer, outer.open(archive) as inner:  # noqa: SIM117
        with tarfile.open(fileobj=inner, mode="r:gz") as tar:
            # The filter came with 3.11.4; before it, the hash of the archive has to do.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
            tar.extractall(folder)
    jar.unlink()


class Mysql9(MysqlRelease):
    """The current 9.x of Debian's development suite, run through that suite's own loader."""

    version = "9.7"
    storage_options = ("--innodb-redo-log-capacity=16M", PLAIN_FILES)

    def program(self) -> Command:
        """The loader with mysqld, its compiled-in paths replaced by those of the unpacked tree."""
        need_linux_x86_64("MySQL")
        root = made_once("mysql-sid", self._fetch) / "root"
        libraries = root / SID_PREFIX
        share = root / "usr/share/mysql"
        argv = [
            *(str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)),
            *(str(root / "usr/sbin/mysqld"), "--no-defaults", f"--basedir={root / 'usr'}"),
            f"--plugin-dir={root / 'usr/lib/mysql/plugin'}",
            *(f"--lc-messages-dir={share}", f"--character-sets-dir={share / 'charsets'}"),
            "--secure-file-priv=",
        ]
        return Command(argv, env={})

    def _fetch(self, folder: Path) -> None:
        with self.reporter.step("fetch mysql 9.7 (66 MB)"):
            fetch_packages(
                "MySQL 9.7",
                SID_PACKAGES,
                folder,
                suite="sid",
                needless=SID_NEEDLESS,
                guardian=self.guardian,
            )


RELEASES: Mapping[str, type[MysqlRelease]] = {"8.0.15": Mysql8, "9.7": Mysql9}
DEFAULT_VERSION = "8.0.15"


class MysqlServer(DatabaseServer):
    """One MySQL server with row binlog, full row metadata and GTIDs."""

    kind = "mysql"
    flavor = "mysql"

    def __init__(
        self,
        home: Home,
        version: str = DEFAULT_VERSION,
        options: Sequence[str] = (),
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        """Uses the release `version`, a key of `RELEASES`."""
        super().__init__(home, options, settings)
        self.release = release(RELEASES, version, "MySQL", self.guardian, self.reporter)

    def command(self) -> Command:
        """`mysqld` on the server's own folder."""
        program = self.release.program()
        argv = [
            *program.argv,
            *user_options(),
            *self.listen_options(),
            *self.release.storage_options,
            *self.release.extra_options,
            *SOURCE_OPTIONS,
            *self.options,
        ]
        return Command(argv, program.env)

    def template(self) -> Path:
        """The release's empty data folder."""
        return self.release.template()
