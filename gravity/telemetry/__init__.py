"""Logs and metrics: every name is declared here."""
