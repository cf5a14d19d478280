"""One script for each library that is measured. Each runs in its own virtual environment, as a process of its own."""
