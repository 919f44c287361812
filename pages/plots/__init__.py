"""Pictures of drift runs: pure functions from numbers to SVG, and what of the runs becomes a number."""
