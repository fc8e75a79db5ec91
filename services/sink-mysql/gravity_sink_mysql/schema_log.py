"""What this target's tables have been altered to, and by whom: `_gravity_schema` and `_gravity_origins`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gravity import target_table
from gravity.batch import Column, TableSchema
from gravity.column import UnknownColumnTypeError, from_information_schema
from gravity.errors import TransientError
from gravity.evolution import Alteration, renamed_key
from gravity.schema_change import TableAction
from gravity.schema_follower import Fitness, RealColumn, Shape, Stage
from gravity_sink_mysql.alteration import first_part, judge, second_part
from gravity_sink_mysql.connection import Session
from gravity_sink_mysql.definition import Dialect
from gravity_sink_mysql.statement import quote_name, quote_text

if TYPE_CHECKING:
    from gravity_sink_mysql.fence import Fence

SCHEMA = target_table.quoted(target_table.SCHEMA)
ORIGINS = target_table.quoted(target_table.ORIGINS)
COLUMNS = target_table.quoted(target_table.COLUMNS)
LOCK_WAIT_S = 5

CREATE_SCHEMA_TABLES: Sequence[str] = (
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA} (
  target VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  resolver_epoch INT UNSIGNED NOT NULL,
  name VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  change_id VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  source VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  seq BIGINT UNSIGNED NOT NULL,
  part INT UNSIGNED NOT NULL,
  stage TINYINT UNSIGNED NOT NULL,
  effect LONGTEXT CHARACTER SET utf8mb4 NOT NULL,
  PRIMARY KEY (target, resolver_epoch, name, change_id)
) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {ORIGINS} (
  target VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  name VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  origin VARCHAR(250) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  row_key LONGTEXT CHARACTER SET utf8mb4 NOT NULL,
  PRIMARY KEY (target, name, origin)
) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {COLUMNS} (
  target VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  resolver_epoch INT UNSIGNED NOT NULL,
  name VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  column_name VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  part INT UNSIGNED NOT NULL,
  gone TINYINT UNSIGNED NOT NULL,
  PRIMARY KEY (target, resolver_epoch, name, column_name, part)
) ENGINE=InnoDB""",
)

_FIELDS = "name, change_id, source, seq, part, stage, effect"


def split(table: str) -> tuple[str, str]:
    """(database, table) of a full name."""
    database, _, name = table.partition(".")
    return database, name


class SchemaLog:
    """A lane's view of them, on its own session. It is the follower's `SchemaTarget`."""

    def __init__(self, fence: Fence, epoch: int, dialect: Callable[[Session], Dialect]) -> None:
        self._fence = fence
        self._epoch = epoch
        self._dialect = dialect
        self.session: Session | None = None
        """Set by the lane before each use: the session that the progress row names."""

    @property
    def _here(self) -> Session:
        assert self.session is not None
        return self.session

    @property
    def _mine(self) -> str:
        return f"target={quote_text(self._fence.target)} AND resolver_epoch={self._fence.resolver_epoch}"

    # ------------------------------------------------------------------ what is recorded

    def all(self) -> list[Alteration]:
        """Everything recorded for the target."""
        rows = self._here.rows(f"SELECT {_FIELDS} FROM {SCHEMA} WHERE {self._mine}")
        return [_alteration(row) for row in rows]

    def number(self) -> int:
        """How many alterations are recorded for the target."""
        return int(self._here.rows(f"SELECT COUNT(*) FROM {SCHEMA} WHERE {self._mine}")[0][0])

    def alterations(self, table: str) -> list[Alteration]:
        """Everything recorded about `table`."""
        rows = self._here.rows(
            f"SELECT {_FIELDS} FROM {SCHEMA} WHERE {self._mine} AND name={quote_text(table)}"
        )
        return [_alteration(row) for row in rows]

    def claim(self, alteration: Alteration) -> Alteration:
        """Records what is planned, if nobody has; returns what stands. The key makes it atomic.

        Under the table's lock, which lanes hold while they make what their rows lack.
        """
        values = ", ".join(
            map(
                quote_text,
                (alteration.table, alteration.change_id, alteration.source),
            )
        )
        effect = quote_text(json.dumps(alteration.to_json(), separators=(",", ":")))
        with self.lock(alteration.table):
            self._fence.assert_owner(self._here, self._epoch)
            self._here.execute(
                f"INSERT IGNORE INTO {SCHEMA} VALUES ({quote_text(self._fence.target)}, "
                f"{self._fence.resolver_epoch}, {values}, {alteration.seq}, {alteration.partition}, 0, {effect})"
            )
        standing = self.alterations(alteration.table)
        return next(item for item in standing if item.change_id == alteration.change_id)

    def record(self, alteration: Alteration) -> None:
        """Records its stage, and what the key's columns are called now."""
        name = quote_text(alteration.table)
        if alteration.done and any(step.new_name for step in alteration.steps):
            for origin, key in self._origins(alteration.table).items():
                names = renamed_key([column for column, _ in key], [alteration])
                renewed = [[name, kind] for name, (_, kind) in zip(names, key, strict=True)]
                self._here.execute(
                    f"UPDATE {ORIGINS} SET row_key={quote_text(json.dumps(renewed))} "
                    f"WHERE target={quote_text(self._fence.target)} AND name={name} "
                    f"AND origin={quote_text(origin)}"
                )
        self._here.execute(
            f"UPDATE {SCHEMA} SET stage={alteration.stage} WHERE {self._mine} AND name={name} "
            f"AND change_id={quote_text(alteration.change_id)}"
        )

    # ------------------------------------------------------------------ whose rows a table has

    def remember_origin(self, table: str, source: str, schema: TableSchema) -> None:
        """Notes, before the first row, which source table fills `table`, and by which key."""
        key = [[schema.columns[i].name.lower(), schema.columns[i].type] for i in schema.key]
        origin = f"{source} {schema.database}.{schema.table}"
        self._here.execute(
            f"INSERT IGNORE INTO {ORIGINS} VALUES ({quote_text(self._fence.target)}, "
            f"{quote_text(table)}, {quote_text(origin)}, {quote_text(json.dumps(key))})"
        )

    def origins(self, table: str) -> list[str]:
        """The source tables whose rows went into `table`."""
        return sorted(self._origins(table))

    def key_of(self, table: str) -> list[tuple[str, str]]:
        """(column, type at the source) of the key that rows of `table` are divided by.

        Of a table that an older version filled it is the primary key as it is here.
        """
        found = next(iter(self._origins(table).values()), None)
        if found is not None:
            return found
        database, name = split(table)
        kinds = {real.name: real.type for real in self.shape(table) or ()}
        rows = self._here.rows(
            f"SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE INDEX_NAME='PRIMARY' "
            f"AND TABLE_SCHEMA={quote_text(database)} AND TABLE_NAME={quote_text(name)} "
            "ORDER BY SEQ_IN_INDEX"
        )
        return [(str(row[0]), kinds[str(row[0])]) for row in rows]

    def _origins(self, table: str) -> dict[str, list[tuple[str, str]]]:
        rows = self._here.rows(
            f"SELECT origin, row_key FROM {ORIGINS} WHERE target={quote_text(self._fence.target)} "
            f"AND name={quote_text(table)}"
        )
        return {
            str(origin): [(name, kind) for name, kind in json.loads(key)] for origin, key in rows
        }

    # ------------------------------------------------------------------ shapes of several sources

    @contextmanager
    def lock(self, table: str) -> Iterator[None]:
        """Keeps other partitions from altering `table`; the server lets go with the session at the latest."""
        digest = hashlib.blake2b(f"{self._fence.target}/{table}".encode(), digest_size=20)
        name = quote_text(f"gravity.{digest.hexdigest()}")
        if str(self._here.rows(f"SELECT GET_LOCK({name}, {LOCK_WAIT_S})")[0][0]) != "1":
            raise TransientError(
                "another partition is altering the table",
                where=f"target {self._fence.target}, table {table}",
            )
        yield
        self._here.rows(f"SELECT RELEASE_LOCK({name})")

    def say(self, table: str, column: str, *, gone: bool, seq: int) -> None:
        """Records whether rows of this partition come without the column. `seq` is in the lane's progress."""
        del seq
        self._fence.assert_owner(self._here, self._epoch)
        self._here.execute(
            f"INSERT INTO {COLUMNS} VALUES ({quote_text(self._fence.target)}, "
            f"{self._fence.resolver_epoch}, {quote_text(table)}, {quote_text(column)}, "
            f"{self._fence.partition}, {int(gone)}) ON DUPLICATE KEY UPDATE gone={int(gone)}"
        )

    def gone_in(self, table: str, column: str) -> set[int]:
        """The partitions whose rows come without the column."""
        rows = self._here.rows(
            f"SELECT part FROM {COLUMNS} WHERE {self._mine} AND name={quote_text(table)} "
            f"AND column_name={quote_text(column)} AND gone=1"
        )
        return {int(row[0]) for row in rows}

    # ------------------------------------------------------------------ the tables themselves

    def shape(self, table: str) -> Shape | None:
        """The table's columns in their order, without generated ones; None if there is no table."""
        database, name = split(table)
        rows = self._here.rows(
            "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_MAXIMUM_LENGTH, NUMERIC_PRECISION, "
            "NUMERIC_SCALE, DATETIME_PRECISION, IS_NULLABLE, CHARACTER_SET_NAME, COLLATION_NAME, COLUMN_KEY "
            f"FROM information_schema.COLUMNS WHERE TABLE_SCHEMA={quote_text(database)} "
            f"AND TABLE_NAME={quote_text(name)} AND COALESCE(GENERATION_EXPRESSION, '')='' "
            "ORDER BY ORDINAL_POSITION"
        )
        return [_real_column(row) for row in rows] or None

    def judge(self, real: RealColumn, column: Column) -> Fitness:
        """Whether `real` takes the values of `column`."""
        return judge(real, column)

    def refuse(self, alteration: Alteration, shape: Shape) -> None:
        """Nothing: what the server can't do it says itself."""

    def first_part(self, alteration: Alteration) -> list[Stage]:
        """Renames and drops."""
        return first_part(_quoted(alteration.table), alteration)

    def second_part(self, alteration: Alteration, shape: Shape) -> list[str]:
        """Additions and changes of type."""
        dialect = self._dialect(self._here)
        return second_part(_quoted(alteration.table), alteration, shape, dialect)

    def drop(self, table: str) -> list[str]:
        """DROP TABLE."""
        return [f"DROP TABLE IF EXISTS {_quoted(table)}"]

    def run(self, statements: Sequence[str]) -> None:
        """Runs statements. Each escapes the compare-and-set, so each is preceded by it on this session."""
        for statement in statements:
            self._fence.assert_owner(self._here, self._epoch)
            while self._here.execute(statement) and statement.startswith("UPDATE"):
                pass


def _quoted(table: str) -> str:
    database, name = split(table)
    return f"{quote_name(database)}.{quote_name(name)}"


def _alteration(row: tuple[Any, ...]) -> Alteration:
    name, change_id, source, seq, part, stage, effect = row
    bare = Alteration(
        str(name), str(change_id), str(source), int(seq), int(part), TableAction.ALTER
    )
    return replace(bare.with_json(json.loads(effect)), stage=int(stage))


def _real_column(row: tuple[Any, ...]) -> RealColumn:
    (
        name,
        data_type,
        column_type,
        length,
        precision,
        scale,
        fraction,
        nullable,
        charset,
        collation,
        key,
    ) = row

    def number(value: object) -> int | None:
        return None if value is None else int(str(value))

    text = _text(column_type)
    declared = None
    try:
        kind = from_information_schema(
            data_type=_text(data_type),
            column_type=text,
            character_maximum_length=number(length),
            numeric_precision=number(precision),
            numeric_scale=number(scale),
            datetime_precision=number(fraction),
        )
    except UnknownColumnTypeError:
        pass  # Named when a change touches the column.
    else:
        text = kind.text
        charset = charset if kind.has_charset else None
        declared = Column(
            str(name), text, nullable == "YES", charset, collation if charset else None
        )
    return RealColumn(
        str(name), text, nullable == "YES", key == "PRI", charset, collation, declared
    )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
