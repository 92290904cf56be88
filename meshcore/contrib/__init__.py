"""Joints to other libraries, each in a module that needs its library."""
