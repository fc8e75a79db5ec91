"""Gravity's shared library: the words of the domain, and no service logic."""
