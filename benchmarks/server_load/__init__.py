"""`python -m benchmarks.server_load`: what the embedded server bears, and that it loses nothing while it does."""
