"""As in ISO 8601, for every language: they sort, and nobody takes a month for a day."""

DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
DATETIME_FORMAT = "Y-m-d H:i:s"
