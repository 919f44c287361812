"""The database engine: django-mongodb-backend, with the few changes that Drift Watch measured a need for."""
