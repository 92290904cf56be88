"""Connections: sockets, TLS, targets, and what they have in common."""
