"""The command ``meshcore``: it parses, calls the library and renders."""
