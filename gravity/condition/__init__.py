"""Conditions: SQL expressions over one row, evaluated over the columns of a batch as MySQL would.

Pure: no I/O. `expression` is the door to sqlglot; `program` turns an expression into Python for one
table; `number`, `moment` and `collation` hold MySQL's rules for values.
"""

from gravity.condition.expression import ConditionError
from gravity.condition.program import Condition, compile_condition

__all__ = ["Condition", "ConditionError", "compile_condition"]
