"""Plots of drift runs: reading their values, and pure functions from values to SVG."""
