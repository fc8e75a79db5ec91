"""Writes a target topic into a ClickHouse server."""
