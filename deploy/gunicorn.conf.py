"""gunicorn, as `manage.py serve` and the container run it. https://docs.gunicorn.org/en/stable/settings.html"""

import os

port = os.environ.get("PORT", "8000")
# In development the service is for this machine alone.
bind = f"0.0.0.0:{port}" if os.environ.get("DRIFTWATCH_ENV") == "production" else f"127.0.0.1:{port}"
workers = int(os.environ.get("WEB_CONCURRENCY", os.cpu_count() or 1))
worker_class = "gthread"
threads = 4
timeout = 60
graceful_timeout = 20
keepalive = 5
# Room for tokens that are too large: the service refuses them in its own words.
limit_request_line = 8_190
limit_request_field_size = 65_000
loglevel = os.environ.get("LOG_LEVEL", "info").lower()
control_socket_disable = True
