"""Decides where each row change goes and re-keys it into the routed topics."""
