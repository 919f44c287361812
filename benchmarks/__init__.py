"""What the service costs over the plain database. `make bench` runs it; README.md here says what it measures."""
