"""The connecting side: requests to connections."""
