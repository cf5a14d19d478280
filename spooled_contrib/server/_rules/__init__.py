"""The rules of the queue. Plain functions over a `Tx`; decisions that need no database are functions of their own."""
