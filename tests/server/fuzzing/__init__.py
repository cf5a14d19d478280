"""Schemathesis over the server's own description: `python -m tests.server.fuzzing --help`."""

KEY = "sp_test_the-key-of-the-server-that-is-fuzzed-00"
ADMIN_KEY = "the-key-of-those-who-run-the-server-that-is-fuzzed"
