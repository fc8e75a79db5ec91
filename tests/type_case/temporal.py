"""Dates and times at the edges of their types."""

from __future__ import annotations

from tests.type_case.case import Case


def temporal() -> list[Case]:
    """Dates and times: zero, partial, impossible, negative, and each number of digits."""
    found = [
        Case(
            "t_date",
            "date",
            (
                "'0000-00-00'",
                "'1000-01-01'",
                "'9999-12-31'",
                "'2024-00-10'",
                "'2024-02-00'",
                "'2024-02-29'",
                "'2024-02-31'",
                "'0001-01-01'",
                "'1899-12-31'",
                "'1900-01-01'",
                "'2299-12-31'",
                "'2300-01-01'",
            ),
        )
    ]
    for digits in range(7):
        fraction = f".{'123456789'[:digits]}" if digits else ""
        nines = f".{'9' * digits}" if digits else ""
        small = f".{'0' * (digits - 1)}1" if digits else ""
        found.append(
            Case(
                f"t_datetime_{digits}",
                f"datetime({digits})",
                tuple(
                    f"'{text}'"
                    for text in (
                        "0000-00-00 00:00:00",
                        f"1000-01-01 00:00:00{small}",
                        f"9999-12-31 23:59:59{nines}",
                        f"2024-02-29 12:34:56{fraction}",
                        "2024-00-00 00:00:00",
                        "2024-02-30 23:59:59",
                        f"1899-12-31 23:59:59{nines}",
                        f"2299-12-31 23:59:59{nines}",
                        "2300-01-01 00:00:00",
                        f"0001-12-01 01:02:03{nines}",
                    )
                ),
            )
        )
        found.append(
            Case(
                f"t_timestamp_{digits}",
                f"timestamp({digits})",
                tuple(
                    f"'{text}'"
                    for text in (
                        "0000-00-00 00:00:00",
                        f"1970-01-01 00:00:01{small}",
                        f"2038-01-19 03:14:07{nines}",
                        f"2024-02-29 12:34:56{fraction}",
                    )
                ),
            )
        )
        found.append(
            Case(
                f"t_time_{digits}",
                f"time({digits})",
                tuple(
                    f"'{text}'"
                    for text in (
                        "00:00:00",
                        f"00:00:00{small}",
                        f"-00:00:00{small}",
                        f"-00:00:01{fraction}",
                        f"12:34:56{fraction}",
                        f"-12:34:56{nines}",
                        "838:59:59",
                        "-838:59:59",
                        f"100:00:00{small}",
                        f"-100:59:59{nines}",
                    )
                ),
            )
        )
    return found
