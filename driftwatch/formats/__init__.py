"""Default formats of dates and times in templates."""
