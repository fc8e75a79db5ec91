"""The long proofs: `python -m tests.prove WHAT` runs every module here whose name begins with WHAT."""
