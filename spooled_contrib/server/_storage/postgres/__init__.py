"""PostgreSQL as a storage, for more than one machine. Needs the extra: `pip install "spooled-contrib[postgres]"`."""
