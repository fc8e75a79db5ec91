"""Numbers at the edges of their types."""

from __future__ import annotations

from tests.type_case.case import Case


def integers() -> list[Case]:
    """Of every width, signed and not."""
    found = []
    for name, bits in (
        ("tinyint", 8),
        ("smallint", 16),
        ("mediumint", 24),
        ("int", 32),
        ("bigint", 64),
    ):
        top = 1 << (bits - 1)
        signed = (-top, -top + 1, -1, 0, 1, top - 1)
        unsigned = (0, 1, top - 1, top, 2 * top - 1)
        found.append(Case(f"t_{name}", name, tuple(map(str, signed))))
        found.append(Case(f"t_{name}_unsigned", f"{name} unsigned", tuple(map(str, unsigned))))
    found.append(Case("t_bool", "bool", ("true", "false", "-5")))
    found.append(Case("t_int_zerofill", "int(8) zerofill", ("0", "42")))
    found.append(Case("t_year", "year", ("'0000'", "1901", "1999", "2155")))
    return found


_SHAPES = (
    (65, 30),
    (65, 0),
    (30, 30),
    (12, 2),
    (10, 0),
    (9, 9),
    (18, 9),
    (19, 1),
    (5, 5),
    (38, 20),
    (1, 0),
)
_WIDTHS = (1, 7, 8, 9, 12, 16, 17, 24, 31, 32, 33, 48, 63, 64)


def _decimal(precision: int, scale: int) -> Case:
    whole, fraction = "9" * (precision - scale), "9" * scale
    biggest = f"{whole or 0}.{fraction}" if scale else whole
    tiny = f"0.{'0' * (scale - 1)}1" if scale else "1"
    values = ("0", "-0", biggest, f"-{biggest}", tiny, f"-{tiny}", "0.5" if scale else "7")
    return Case(f"t_decimal_{precision}_{scale}", f"decimal({precision},{scale})", values)


def _bit(bits: int) -> Case:
    values = ("0", "1", str((1 << bits) - 1), str(1 << (bits - 1)))
    return Case(f"t_bit_{bits}", f"bit({bits})", values)


def decimals() -> list[Case]:
    """Of many shapes."""
    found = [_decimal(*shape) for shape in _SHAPES]
    found.append(Case("t_decimal_unsigned", "decimal(10,3) unsigned", ("0", "1234567.891")))
    return found


def floats() -> list[Case]:
    """Of both widths."""
    numbers = (
        "0",
        "-0e0",
        "0.1",
        "1.5",
        "-1e30",
        "3.4028234e38",
        "1.17549e-38",
        "123456.789",
        "16777217",
        "1e-5",
    )
    doubles = (
        "1.7976931348623157e308",
        "2.2250738585072014e-308",
        "5e-324",
        "0.30000000000000004",
        "1e15",
        "1e16",
    )
    return [
        Case("t_float", "float", numbers),
        Case("t_float_unsigned", "float unsigned", ("0", "0.3333333")),
        Case("t_float_digits", "float(7,3)", ("1234.567", "0.001")),
        Case("t_double", "double", numbers + doubles),
        Case("t_double_unsigned", "double unsigned", ("0", "0.1")),
    ]


def bits() -> list[Case]:
    """Of many widths."""
    return [_bit(width) for width in _WIDTHS]


def more_numbers() -> list[Case]:
    """BIT of every other width, and DECIMAL of every precision with some scale."""
    shapes = [(precision, precision * 11 % (min(precision, 30) + 1)) for precision in range(1, 66)]
    return [
        *(_bit(width) for width in range(1, 65) if width not in _WIDTHS),
        *(_decimal(*shape) for shape in shapes if shape not in _SHAPES),
    ]
