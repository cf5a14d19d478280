"""Schemathesis over the server's own description: `python -m tests.server.fuzzing --help`."""
