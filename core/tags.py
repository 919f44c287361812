"""The limits of tags: `MAX_TAG` characters each, and `MAX_TAGS` on one object."""

MAX_TAG = 20
MAX_TAGS = 50
