"""The `gravity` command."""
