"""Codecs: bytes in, events out.  No I/O, no Trio, no clock."""
