"""Real servers and proxies that tests and benchmarks start, each on a free port, each killed at the end."""
