"""`make image`: build the image, run it as in production, and stop one of two copies under load.

Two copies and the background tasks run in containers, on a replica set of three MongoDB servers, behind nginx with TLS
and `deploy/nginx.conf`. Each step prints one line.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import requests
from environs import Env

from benchmarks.containers import Buildah, Container, Image
from driftwatch.settings import VERSION
from tests.nginx import NGINX, Nginx
from tests.ports import free_port
from tests.replica_set import ReplicaSet

env = Env()
STORAGE = env.path("IMAGE_STORAGE", Path("var/image"))
BASE = env.str("IMAGE_BASE", "")
PROGRAMS = ("buildah", "mmdebstrap", "openssl")
HOST = "drift.example.org"
READY_SECONDS = 60
WRITERS = 8
# Seconds of load before a copy is stopped, and after it has ended.
CALM = 5
# Tools to build and install, and an embedded database.
UNWANTED = (
    "**/bin/pip*",
    "**/bin/*cc",
    "**/bin/make",
    "**/bin/mongod",
    "**/site-packages/pip",
    "**/*.whl",
    "app/tests",
)
RUN = {"job_status": "Completed", "model": "forest", "drift_detected": True}


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class TLSNginx(Nginx):
    """nginx at https, in front of several copies of the service."""

    def __init__(self, ports: list[str], certificate: Path, key: Path) -> None:
        self.certificate, self.key = certificate, key
        super().__init__(*(f"http://127.0.0.1:{port}" for port in ports))
        self.url = f"https://localhost:{self.port}"

    def changes(self, servers: str) -> dict[str, str]:
        changes = super().changes(servers)
        del changes[r"ssl_certificate(_key)? [^;]+;"]
        return changes | {
            r"listen 443 ssl http2;": f"listen 127.0.0.1:{self.port} ssl http2;",
            r"ssl_certificate [^;]+;": f"ssl_certificate {self.certificate};",
            r"ssl_certificate_key [^;]+;": f"ssl_certificate_key {self.key};",
        }


def certify(directory: Path) -> tuple[Path, Path]:
    """Make a certificate of `HOST` and this machine, and its key."""
    paths = directory / "certificate.pem", directory / "certificate.key"
    names = f"subjectAltName=DNS:{HOST},DNS:localhost"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
    subprocess.run([*command, "-addext", names, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


def check_files(image: Image) -> None:
    found = [path for pattern in UNWANTED for path in image.root.glob(pattern)]
    assert not found, found


def check_confinement(image: Image, environment: Mapping[str, str]) -> None:
    """Check that the service is no root, has no capability, and writes to /tmp alone."""
    script = "id -u; grep CapEff /proc/self/status; touch /tmp/x && ! touch /app/x /x /var/tmp/x 2>/dev/null && echo ok"
    user, capabilities, writes = image.run(environment, ["sh", "-c", script]).splitlines()
    assert (user, capabilities.split()[1].strip("0"), writes) == ("10001", "", "ok")


def wait_until_ready(image: Image, copy: Container, environment: Mapping[str, str]) -> None:
    """Wait until the image's own health check and `/readyz` succeed."""
    deadline = time.monotonic() + READY_SECONDS
    for check in (image.health_check, [*image.health_check[:-1], "/readyz"]):
        while subprocess.run(image.arguments(environment, check), check=False, capture_output=True).returncode:
            if copy.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"A copy is not ready:\n{copy.log.read_text()}")
            time.sleep(0.2)


def client(certificate: Path, token: str = "") -> requests.Session:
    session = requests.Session()
    session.verify = str(certificate)
    # A variable of this machine may name other certificates.
    session.trust_env = False
    session.headers["Host"] = HOST
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    return session


def check_pages(url: str, session: requests.Session) -> None:
    """Check that pages and files respond to a visitor without a token."""
    for path, text in {
        "/livez": VERSION,
        "/readyz": "ok",
        "/static/driftwatch/pages.css": "{",
        "/api/v1/docs": "swagger",
        "/login": "password",
        "/admin/": "password",
    }.items():
        found = session.get(f"{url}{path}")
        assert found.status_code == 200, (path, found.status_code)
        assert text in found.text, path


def experiment(url: str, session: requests.Session) -> str:
    """Create an experiment with a run that a search finds, and return the address of its runs."""
    created = session.post(f"{url}/api/v1/experiment", json={"name": "Image"})
    created.raise_for_status()
    runs = f"{url}/api/v1/experiment/{created.json()['id']}/drift"
    session.post(runs, json=RUN).raise_for_status()
    assert len(session.post(f"{runs}/search", json={"drift_detected": True}).json()) == 1
    return runs


def stop_under_load(copy: Container, runs: str, new_client: Callable[[], requests.Session]) -> bool:
    """Stop a copy while writers report runs. Return whether each request succeeded and each run is stored once."""
    is_over = threading.Event()

    def write() -> Counter[str]:
        outcomes: Counter[str] = Counter()
        writer = new_client()
        while not is_over.is_set():
            try:
                outcomes[str(writer.post(runs, json=RUN, timeout=30).status_code)] += 1
            except requests.RequestException as error:
                outcomes[type(error).__name__] += 1
        return outcomes

    before = stored(runs, new_client())
    with ThreadPoolExecutor(WRITERS) as threads:
        writers = [threads.submit(write) for _ in range(WRITERS)]
        time.sleep(CALM)
        started = time.monotonic()
        status = copy.stop()
        seconds = time.monotonic() - started
        time.sleep(CALM)
        is_over.set()
    outcomes = sum((writer.result() for writer in writers), Counter[str]())
    added = stored(runs, new_client()) - before
    say(f"stop: status {status} after {seconds:.1f} s; responses {dict(outcomes)}; {added} runs stored")
    return status == 0 and set(outcomes) == {"201"} and added == outcomes["201"]


def stored(runs: str, session: requests.Session) -> int:
    found = session.post(f"{runs}/search", json={}, params={"page_size": 1})
    found.raise_for_status()
    return int(json.loads(found.headers["X-Pagination"])["total"])


def main() -> None:
    missing = [program for program in PROGRAMS if not shutil.which(program)] + ["nginx"] * (not NGINX)
    if missing or os.geteuid():
        sys.exit(f"Run this as root, with {', '.join(PROGRAMS)} and nginx. Missing: {', '.join(missing) or 'root'}.")
    buildah = Buildah(STORAGE.resolve())
    started = time.monotonic()
    buildah.build(BASE, VERSION)
    with ExitStack() as ending:
        image = ending.enter_context(buildah.mounted())
        say(f"build: {image.size} in {time.monotonic() - started:.0f} s")
        directory = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="driftwatch-image-")))
        replicas = ReplicaSet(directory).start()
        ending.callback(replicas.stop)
        good = deployed(image, replicas.uri, directory, ending)
    if not good:
        sys.exit("A request was lost.")


def deployed(image: Image, mongodb: str, directory: Path, ending: ExitStack) -> bool:
    """Deploy the image, check it, and stop a copy under load. Return whether no request was lost."""
    production = {
        "MONGODB_URI": mongodb,
        "SECRET_KEY": secrets.token_urlsafe(48),
        "ALLOWED_HOSTS": HOST,
        "TRUSTED_PROXIES": "1",
        "SECURE_PROXY_SSL_HEADER": "X-Forwarded-Proto",
    }
    check_files(image)
    check_confinement(image, production)
    say("image: no tools to build or install, no database; user 10001 without capabilities writes to /tmp only")
    image.run(production, ["python", "manage.py", "migrate", "--verbosity=0"])
    environments = [{**production, "PORT": str(free_port())} for _ in range(2)]
    copies = []
    for environment in environments:
        copy = Container(image, environment, directory / f"{environment['PORT']}.log")
        ending.callback(copy.stop)
        copies.append(copy)
    work = Container(image, production, directory / "work.log", ["python", "manage.py", "work"])
    ending.callback(work.stop)
    for copy, environment in zip(copies, environments, strict=True):
        wait_until_ready(image, copy, environment)
    say("copies: both are ready, by the image's health check and by /readyz")
    certificate, key = certify(directory)
    nginx = TLSNginx([environment["PORT"] for environment in environments], certificate, key)
    nginx.start()
    ending.callback(nginx.stop)
    check_pages(nginx.url, client(certificate))
    token = image.run(production, ["python", "manage.py", "token", "image"])
    runs = experiment(nginx.url, client(certificate, token))
    say("service: pages, static files, the portal's login, a token and a search respond through nginx with TLS")
    good = stop_under_load(copies[0], runs, partial(client, certificate, token))
    say(f"work: status {work.stop()}")
    return good


if __name__ == "__main__":
    main()
