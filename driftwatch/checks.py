"""Refuses, at every start, a configuration that is malformed or unsafe."""
