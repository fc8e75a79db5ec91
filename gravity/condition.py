"""Conditions: temporary"""
class ConditionError(ValueError):
    """A condition that can't be used."""
def compile_condition(text: str) -> str:
    """x"""
    return text
