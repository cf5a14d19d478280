"""Mails: how one is sent, and the jobs that send them."""
