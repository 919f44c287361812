"""nginx with the configuration of `deploy/nginx.conf`, in front of a running service."""

import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.live import ROOT
from tests.ports import free_port, is_listening

# Debian has it in /usr/sbin, which is not on every PATH.
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
START_SECONDS = 10
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """nginx at `url`, without TLS, in front of copies of the service. Files are in a directory of its own."""

    def __init__(self, *copies: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.directory = Path(tempfile.mkdtemp(prefix="nginx-"))
        self.directory.chmod(0o755)
        text = (ROOT / "deploy" / "nginx.conf").read_text()
        servers = " ".join(rf"server {urlsplit(copy).netloc}\1;" for copy in copies)
        for pattern, replacement in self.changes(servers).items():
            text, found = re.subn(pattern, replacement, text)
            assert found, pattern
        (self.directory / "nginx.conf").write_text(text)

    def changes(self, servers: str) -> dict[str, str]:
        """Return what differs from the deployed configuration: other ports, other files, and no TLS."""
        paths = "".join(f"{name}_temp_path {self.directory}/{name};\n" for name in TEMPORARY)
        return {
            r"user www-data;": "",
            r"pid [^;]+;": f"daemon off;\npid {self.directory}/pid;",
            r"/var/log/nginx": str(self.directory),
            r"http \{": f"http {{\n{paths}",
            r"server 127\.0\.0\.1:8000([^;]*);": servers,
            r"listen 80;": f"listen 127.0.0.1:{free_port()};",
            r"listen 443 ssl http2;": f"listen 127.0.0.1:{self.port};",
            r"ssl_certificate(_key)? [^;]+;": "",
        }

    def start(self) -> None:
        assert NGINX
        self.process = subprocess.Popen([NGINX, "-p", self.directory, "-c", self.directory / "nginx.conf"])
        deadline = time.monotonic() + START_SECONDS
        while not is_listening(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("nginx did not start. See its error above.")
            time.sleep(0.02)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def stop(self) -> None:
        self.end()
        shutil.rmtree(self.directory)
