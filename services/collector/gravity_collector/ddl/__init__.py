"""Statements that change tables, read for certain: what they say, and what they did to columns and rows. Pure."""
