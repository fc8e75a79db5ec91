"""What a statement did to each table: columns, rows, and the names of its effects."""

from collections.abc import Mapping

import pytest
from gravity_collector.ddl.column_definition import Dialect
from gravity_collector.ddl.effect import Effect, effects_of
from gravity_collector.ddl.shape import Shapes
from gravity_collector.ddl.sql_token import SqlMode
from gravity_collector.ddl.statement import parse_ddl
from hypothesis import given, settings
from hypothesis import strategies as st

from gravity.batch import Column, TableSchema
from gravity.schema_change import ColumnAction, RowsAfter, TableAction

STRICT = 1 << 21
T = TableSchema(
    "shop",
    "t",
    (
        Column("id", "int", nullable=False),
        Column("Name", "varchar(20)", charset="utf8mb4", collation="utf8mb4_bin"),
        Column("n", "int unsigned"),
        Column("price", "decimal(10,2)", nullable=False),
        Column("note", "text", charset="latin1", collation="latin1_swedish_ci"),
        Column("kind", "enum('a','b')", charset="utf8mb4", collation="utf8mb4_bin"),
        Column("at", "datetime"),
        Column("raw", "binary(4)"),
    ),
    (0,),
)
OTHER = TableSchema("shop", "u", (Column("id", "int", nullable=False), Column("w", "text")), (0,))
KNOWN = {("shop", "t"): T, ("shop", "u"): OTHER}


def effects(
    sql: str,
    mode: int = STRICT,
    *,
    mariadb: bool = True,
    known: Mapping[tuple[str, str], TableSchema] = KNOWN,
) -> list[Effect]:
    dialect = Dialect(mariadb, SqlMode(mode))
    ddl = parse_ddl(sql, "shop", dialect)
    assert ddl is not None
    return effects_of(ddl, known.get, dialect, lambda _: known)


def altered(clauses: str, mode: int = STRICT, **options: object) -> Effect:
    (effect,) = effects(f"ALTER TABLE t {clauses}", mode, **options)  # type: ignore[arg-type]
    assert effect.action is TableAction.ALTER
    return effect


@pytest.mark.parametrize(
    "clauses",
    [
        "ADD x INT", "ADD COLUMN x INT NULL DEFAULT NULL FIRST", "ADD x VARCHAR(9), ALGORITHM=INSTANT", "ADD x INT INVISIBLE",
        "ADD (x INT, y TEXT)", "DROP n", "DROP COLUMN IF EXISTS n", "RENAME COLUMN n TO m", "CHANGE n m INT UNSIGNED",
        "ADD INDEX (n)", "COMMENT 'x'", "ALTER n SET DEFAULT 4", "MODIFY n BIGINT", "MODIFY n BIGINT UNSIGNED AFTER id", "MODIFY n TINYINT",
        "MODIFY Name VARCHAR(30)", "MODIFY Name TEXT", "MODIFY Name VARCHAR(20) NOT NULL", "MODIFY note MEDIUMTEXT CHARACTER SET latin1",
        "MODIFY price DECIMAL(12,2) NOT NULL", "MODIFY kind ENUM('a','b','c')", "MODIFY at DATETIME COMMENT 'x'",
        "MODIFY raw BINARY(4) NOT NULL", "ADD x INT, DROP x2, RENAME COLUMN n TO m", "ADD IF NOT EXISTS NAME INT DEFAULT 4",
        "DROP IF EXISTS nowhere", "MODIFY IF EXISTS nowhere INT", "RENAME COLUMN IF EXISTS nowhere TO x",
    ],
)  # fmt: skip
def test_rows_are_kept_where_no_value_changes(clauses: str) -> None:
    assert altered(clauses).rows is RowsAfter.KEPT


@pytest.mark.parametrize(
    ("definition", "default"),
    [
        ("INT DEFAULT 5", "5"), ("INT NOT NULL DEFAULT '5'", "5"), ("INT NOT NULL", "0"), ("INT DEFAULT -3", "-3"), ("BOOL DEFAULT TRUE", "1"),
        ("DECIMAL(10,2) DEFAULT 1.5", "1.50"), ("DECIMAL(10,2) NOT NULL", "0.00"), ("DECIMAL(4,1) DEFAULT -0.0", "0.0"), ("FLOAT DEFAULT 0.1", "0.10000000149011612"),
        ("DOUBLE NOT NULL DEFAULT 0.1", "0.1"), ("VARCHAR(9) DEFAULT 'it''s'", "it's"), ("VARCHAR(9) NOT NULL", ""), ("CHAR(9) DEFAULT 'a  '", "a"),
        (r"VARCHAR(9) DEFAULT 'a\n\\'", "a\n\\"), ("VARCHAR(9) DEFAULT 5", None), ("TEXT NOT NULL", ""), ("ENUM('x','y') NOT NULL", "x"), ("ENUM('x','y') DEFAULT 'y'", "y"),
        ("SET('x','y') DEFAULT 'x,y'", "x,y"), ("DATE DEFAULT '2020-01-31'", "2020-01-31"), ("DATETIME DEFAULT '2020-01-31'", "2020-01-31 00:00:00"),
        ("DATETIME(3) DEFAULT '2020-01-31 01:02:03.5'", "2020-01-31 01:02:03.500"), ("TIME(1) DEFAULT '01:02:03'", "01:02:03.0"), ("DATE NOT NULL", "0000-00-00"),
        ("YEAR DEFAULT 2020", "2020"), ("BIT(4) DEFAULT b'101'", "5"), ("BIT(4) NOT NULL", "0"), ("INT DEFAULT 5 COMMENT 'DEFAULT 6' INVISIBLE", "5"),
        ("VARBINARY(5) NOT NULL", ""), ("INT UNSIGNED ZEROFILL NOT NULL", "0"),
    ],
)  # fmt: skip
def test_an_added_columns_constant_is_told_as_the_cell_that_it_is(
    definition: str, default: str | None
) -> None:
    effect = altered(f"ADD x {definition}, ADD y INT")
    if default is None:
        assert effect.rows is RowsAfter.REREAD
        return
    assert effect.rows is RowsAfter.FILLED
    assert [change.default for change in effect.columns] == [default, None]


@pytest.mark.parametrize(
    "clauses",
    [
        "ADD x DATETIME DEFAULT CURRENT_TIMESTAMP", "ADD x INT DEFAULT (1 + 1)", "ADD x CHAR(36) DEFAULT UUID()", "ADD x INT AUTO_INCREMENT UNIQUE",
        "ADD x INT AS (n + 1)", "ADD x INT GENERATED ALWAYS AS (n + 1) STORED", "ADD x SERIAL", "ADD x TIMESTAMP", "ADD x TIMESTAMP DEFAULT '2020-01-01 00:00:00'",
        "ADD x VARCHAR(9) DEFAULT 'ü'", "ADD x VARCHAR(2) DEFAULT 'abc'", "ADD x INT DEFAULT 1.5", "ADD x TINYINT DEFAULT 300", "ADD x FLOAT(5,1) DEFAULT 1.25",
        "ADD x DECIMAL(4,1) DEFAULT 1.25", "ADD x ENUM('a') DEFAULT 'A'", "ADD x BINARY(4) NOT NULL", "ADD x VARBINARY(4) DEFAULT 'a'", "ADD x POINT NOT NULL",
        "ADD x FROBNICATE", "ADD x INT FROBNICATE", "ADD x NCHAR(4)", "ADD x DATE DEFAULT '2020-02-31'", "ADD x DATE DEFAULT 20200101",
        "MODIFY n INT AUTO_INCREMENT", "MODIFY n VARCHAR(9)", "MODIFY Name VARCHAR(10)", "MODIFY Name CHAR(20)", "MODIFY Name BLOB", "MODIFY price DECIMAL(10,3) NOT NULL",
        "MODIFY price FLOAT NOT NULL", "MODIFY kind ENUM('b','a')", "MODIFY at DATETIME(3)", "MODIFY at TIMESTAMP NULL", "MODIFY raw BINARY(6)", "MODIFY unknown INT",
        "MODIFY note TINYTEXT", "CONVERT TO CHARACTER SET utf8mb4", "CONVERT TO CHARACTER SET binary", "DROP PRIMARY KEY", "ADD PRIMARY KEY (n)", "ADD x INT PRIMARY KEY",
        "DROP COLUMN id", "FROBNICATE", "RENAME COLUMN n TO price, RENAME COLUMN price TO n",
    ],
)  # fmt: skip
def test_rows_are_read_again_where_anything_is_uncertain(clauses: str) -> None:
    assert altered(clauses).rows is RowsAfter.REREAD


@pytest.mark.parametrize(
    ("clauses", "mode"),
    [
        ("MODIFY n TINYINT", 0), ("MODIFY Name VARCHAR(20) NOT NULL", 0), ("MODIFY Name VARCHAR(20) CHARACTER SET latin1", 0),
        ("MODIFY Name VARCHAR(20)", 0), ("MODIFY price DECIMAL(9,2) NOT NULL", 0),
    ],
)  # fmt: skip
def test_without_strict_mode_what_might_not_fit_is_read_again(clauses: str, mode: int) -> None:
    assert altered(clauses, STRICT).rows is RowsAfter.KEPT
    assert altered(clauses, mode).rows is RowsAfter.REREAD


def test_alter_ignore_is_never_strict() -> None:
    (effect,) = effects("ALTER IGNORE TABLE t MODIFY n TINYINT")
    assert effect.rows is RowsAfter.REREAD
    emptied, reread = effects("ALTER IGNORE TABLE t ADD UNIQUE (n)")
    assert (emptied.action, reread.rows) == (TableAction.TRUNCATE, RowsAfter.REREAD)


def test_changes_stand_in_the_order_in_which_a_server_makes_them() -> None:
    effect = altered(
        "ADD x INT AFTER b, MODIFY at DATE FIRST, RENAME COLUMN Name TO n, CHANGE N b INT UNSIGNED, DROP note"
    )
    said = [
        (change.action, change.name, change.new_name, change.after) for change in effect.columns
    ]
    assert said == [
        (ColumnAction.DROP, "note", "", None),
        (ColumnAction.MODIFY, "n", "b", None),
        (ColumnAction.RENAME, "Name", "n", None),
        (ColumnAction.ADD, "x", "", "b"),
        (ColumnAction.MODIFY, "at", "", ""),
    ]
    assert effect.shape is not None
    names = [column.name for column in effect.shape.columns]
    assert names == ["at", "id", "n", "b", "x", "price", "kind", "raw"]


def test_a_changed_primary_key_is_told() -> None:
    assert altered("DROP PRIMARY KEY, ADD PRIMARY KEY (NAME, `n`)").key == ("Name", "n")
    assert altered("ADD PRIMARY KEY (n(4) DESC)").key == ("n",)
    assert altered("ADD x INT PRIMARY KEY").key == ("x",)


def _said(found: list[Effect]) -> list[tuple[int, str, TableAction, RowsAfter]]:
    return [(effect.index, effect.table[1], effect.action, effect.rows) for effect in found]


CREATE, ALTER, DROP, TRUNCATE = (
    TableAction.CREATE,
    TableAction.ALTER,
    TableAction.DROP,
    TableAction.TRUNCATE,
)
KEPT, REREAD = RowsAfter.KEPT, RowsAfter.REREAD


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("RENAME TABLE t TO x", [("t", DROP, KEPT), ("x", CREATE, REREAD)]),
        ("ALTER TABLE t RENAME x", [("t", DROP, KEPT), ("x", CREATE, REREAD)]),
        ("ALTER TABLE t ADD c INT, RENAME AS x", [("t", DROP, KEPT), ("x", CREATE, REREAD)]),
        ("ALTER TABLE t RENAME t", [("t", ALTER, KEPT)]),
        ("RENAME TABLE t TO x, x TO y", [("t", DROP, KEPT), ("y", CREATE, REREAD)]),
        ("RENAME TABLE t TO x, x TO t", []),
        ("RENAME TABLE t TO old, u TO t", [("u", DROP, KEPT), ("old", CREATE, REREAD), ("t", TRUNCATE, KEPT), ("t", ALTER, REREAD)]),
        ("RENAME TABLE t TO tmp, u TO t, tmp TO u",
         [("t", TRUNCATE, KEPT), ("t", ALTER, REREAD), ("u", TRUNCATE, KEPT), ("u", ALTER, REREAD)]),
        ("RENAME TABLE t TO _t_del, _t_gho TO t", [("_t_gho", DROP, KEPT), ("_t_del", CREATE, REREAD), ("t", ALTER, REREAD)]),
        ("RENAME TABLE t TO `~t_20260101010101_del`, `~t_gho` TO t",
         [("~t_gho", DROP, KEPT), ("~t_20260101010101_del", CREATE, REREAD), ("t", ALTER, REREAD)]),
        ("RENAME TABLE `shop`.`t` TO `shop`.`_t_old`, `shop`.`_t_new` TO `shop`.`t`", [("_t_new", DROP, KEPT), ("_t_old", CREATE, REREAD), ("t", ALTER, REREAD)]),
        ("RENAME TABLE t TO __t_old, __t_new TO t", [("__t_new", DROP, KEPT), ("__t_old", CREATE, REREAD), ("t", ALTER, REREAD)]),
        ("RENAME TABLE t TO elsewhere, _t_gho TO t",
         [("_t_gho", DROP, KEPT), ("elsewhere", CREATE, REREAD), ("t", TRUNCATE, KEPT), ("t", DROP, KEPT), ("t", CREATE, REREAD)]),
        ("RENAME TABLE t TO _t_del, _u_gho TO t",
         [("_u_gho", DROP, KEPT), ("_t_del", CREATE, REREAD), ("t", TRUNCATE, KEPT), ("t", DROP, KEPT), ("t", CREATE, REREAD)]),
        ("TRUNCATE t", [("t", TRUNCATE, KEPT)]),
        ("DROP TABLE t, u", [("t", DROP, KEPT), ("u", DROP, KEPT)]),
        ("CREATE TABLE x (id INT PRIMARY KEY)", [("x", CREATE, KEPT)]),
        ("CREATE TABLE x LIKE t", [("x", CREATE, KEPT)]),
        ("CREATE TABLE x AS SELECT * FROM t", [("x", CREATE, REREAD)]),
        ("CREATE OR REPLACE TABLE t (id INT PRIMARY KEY)", [("t", DROP, KEPT), ("t", CREATE, KEPT)]),
        ("CREATE TABLE IF NOT EXISTS t (id INT PRIMARY KEY)", [("t", CREATE, KEPT)]),
        ("ALTER TABLE t DROP PARTITION p", [("t", TRUNCATE, KEPT), ("t", ALTER, REREAD)]),
        ("ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u",
         [("t", TRUNCATE, KEPT), ("t", ALTER, REREAD), ("u", TRUNCATE, KEPT), ("u", ALTER, REREAD)]),
        ("ALTER TABLE t CONVERT PARTITION p TO TABLE x", [("t", TRUNCATE, KEPT), ("t", ALTER, REREAD), ("x", CREATE, REREAD)]),
        ("CREATE INDEX i ON t (n)", [("t", ALTER, KEPT)]),
    ],
)  # fmt: skip
def test_a_statement_has_these_effects(
    sql: str, said: list[tuple[str, TableAction, RowsAfter]]
) -> None:
    found = effects(sql)
    assert [what[1:] for what in _said(found)] == said
    numbers = {(index, table, rows) for index, table, _, rows in _said(found)}
    blind = effects(sql, known={})
    assert numbers <= {(index, table, rows) for index, table, _, rows in _said(blind)}, (
        "effects are numbered alike whatever is known"
    )
    assert len({effect.index for effect in blind}) == len(blind)


def test_a_swapped_table_of_unknown_columns_is_made_anew() -> None:
    found = effects("RENAME TABLE t TO old, u TO t", known={})
    assert _said(found) == [
        (0, "u", DROP, KEPT),
        (1, "old", CREATE, REREAD),
        (2, "t", TRUNCATE, KEPT),
        (3, "t", DROP, KEPT),
        (4, "t", CREATE, REREAD),
    ]
    *_, told = effects("RENAME TABLE t TO old, u TO t")
    assert (told.index, told.action) == (4, ALTER)


def test_a_dropped_database_takes_its_tables_along_under_numbers_of_their_own() -> None:
    every = effects("DROP DATABASE shop")
    assert {effect.table[1] for effect in every} == {"t", "u"}
    (one,) = effects("DROP DATABASE shop", known={("shop", "u"): OTHER})
    assert one.index == next(effect.index for effect in every if effect.table[1] == "u")
    assert 0 <= one.index < 1 << 31


def test_a_swapped_tables_columns_are_told_where_both_are_known() -> None:
    *_, effect = effects("RENAME TABLE t TO _t_del, _t_gho TO t", known={**KNOWN, ("shop", "_t_gho"): OTHER})  # fmt: skip
    said = {(change.action, change.name) for change in effect.columns}
    assert (ColumnAction.ADD, "w") in said
    assert (ColumnAction.DROP, "Name") in said
    assert effect.shape is not None
    assert (effect.shape.table, len(effect.shape.columns)) == ("t", 2)


def test_a_shape_is_known_from_rows_and_statements_and_else_not() -> None:
    shapes = Shapes({("shop", "t"): T}, (7, 100))
    assert shapes.of(("shop", "t"), (7, 99)) is None, "the catalog may be ahead of the stream"
    assert shapes.of(("shop", "t"), (7, 100)) == T
    shapes.change(("shop", "t"), None)
    assert shapes.of(("shop", "t"), (8, 0)) is None, "a statement has changed it since"
    shapes.learn(T)
    assert shapes.of(("shop", "t"), (1, 1)) == T
    assert shapes.in_database("shop") == {("shop", "t")}


CLAUSES = st.lists(
    st.sampled_from(
        (
            "ADD x INT", "ADD y INT DEFAULT 4 FIRST", "ADD n INT AFTER id", "DROP n", "DROP Name", "RENAME COLUMN n TO m",
            "RENAME COLUMN m TO n", "CHANGE n Name INT", "CHANGE Name n TEXT FIRST", "MODIFY id BIGINT AFTER n", "ADD PRIMARY KEY (n)",
            "CONVERT TO CHARACTER SET utf8mb4", "ENGINE=InnoDB", "nonsense",
        )
    ),
    max_size=5,
)  # fmt: skip


@settings(max_examples=50)
@given(CLAUSES, st.sampled_from((0, STRICT)), st.booleans())
def test_a_shape_that_is_told_is_whole(clauses: list[str], mode: int, is_known: bool) -> None:
    (effect,) = effects(
        f"ALTER TABLE t {', '.join(clauses)}", mode, known=KNOWN if is_known else {}
    )
    if effect.shape is not None:
        names = [column.name.lower() for column in effect.shape.columns]
        assert len(set(names)) == len(names)
        assert all(index < len(names) for index in effect.shape.key)
    if not is_known:
        assert effect.shape is None
