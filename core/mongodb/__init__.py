"""The database engine: django-mongodb-backend with a few changes, each based on a measurement."""

from core.mongodb import geography as geography
