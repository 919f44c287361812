"""A Redis server on this machine, which tests kill, stop and start."""

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import redis

REDIS = shutil.which("redis-server")
MISSING = "there is no Redis here (apt-get install redis-server)"
START_SECONDS = 10


class RedisServer:
    """`redis-server` at a Unix socket, which keeps nothing after its end. `options` are those of its configuration."""

    def __init__(self, *options: str) -> None:
        self.options = options
        # The path of a socket may have 107 bytes, and that of a test is longer.
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self.address = f"unix://{self.directory}/socket"

    def start(self) -> None:
        command = [str(REDIS), "--port", "0", "--unixsocket", f"{self.directory}/socket", "--save", "", *self.options]
        self.process = subprocess.Popen(command, cwd=self.directory, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self.responds():
            assert time.monotonic() < deadline, "Redis does not start"
            time.sleep(0.02)

    def responds(self) -> bool:
        """Return whether the server responds, also if it requires a password."""
        try:
            with self.client() as client:
                client.ping()
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False
        return True

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.address)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop the process without ending it: it holds its connections, and responds to nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.directory)
