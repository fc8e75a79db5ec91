"""Merges the opinions of several sources about a row into one outcome per target."""
