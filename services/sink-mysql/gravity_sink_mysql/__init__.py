"""Writes a target topic into a MySQL or MariaDB server."""
