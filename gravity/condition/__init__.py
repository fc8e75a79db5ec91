"""Conditions: SQL expressions over one row, evaluated over the columns of a batch as MySQL would.

Pure: no I/O. `syntax` is the door to sqlglot and makes the tree of `expression`; `program` and `call` turn
a tree into Python for one table, `value` where its value is wanted and not its truth; `signature` lists the
functions; `number`, `moment`, `calendar`, `collation`, `function` and `json_path` hold MySQL's rules for values.
"""

from gravity.condition.expression import ConditionError
from gravity.condition.program import Condition, compile_condition
from gravity.condition.value import compile_value

__all__ = ["Condition", "ConditionError", "compile_condition", "compile_value"]
