"""The client, written with coroutines. `spooled._sync` is generated from this package."""
