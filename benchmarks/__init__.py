"""The cost of the service compared with plain MongoDB. `make bench` runs it; README.md describes the operations."""
