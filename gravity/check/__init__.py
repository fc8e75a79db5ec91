"""Asks every server of a configuration whether the pipeline will work with it. Changes nothing."""
