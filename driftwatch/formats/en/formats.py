"""Formats of ISO 8601, for all languages: sortable and unambiguous."""

DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
DATETIME_FORMAT = r"Y-m-d H:i \U\T\C"
