"""The pages for people: what the API tells, where it can be seen. Nothing below imports from here."""
