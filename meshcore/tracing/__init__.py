"""Tracing: which requests are recorded, what of them, and who gets it."""
