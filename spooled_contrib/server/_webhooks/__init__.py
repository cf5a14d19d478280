"""Sending webhooks: which addresses may be called, what is sent, and the task that does it (contract section 9)."""
