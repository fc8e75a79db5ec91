"""Reads row changes of MySQL and MariaDB sources and publishes them to the ingest topics."""
