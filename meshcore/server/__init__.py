"""The accepted side: connections in, requests to services."""
