"""Queues of keys, momentum encoder, views."""
