"""The image of `Dockerfile`, built by buildah, and containers of it without a container engine.

A container has its own mounts and processes, a read-only root, no capability, and the network of this machine. Root is
needed, with Debian's `buildah`, and `mmdebstrap` for a base of Debian's packages.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.live import ROOT

NAME = "localhost/driftwatch"
DEBIAN = "bookworm"
DEBIAN_PACKAGES = "python3,python3-venv,ca-certificates"
CERTIFICATES = "/etc/ssl/certs"
STOP_SECONDS = 60
# Run with the root directory, its user and the command: only /tmp is writable.
CONTAINER = """
set -e
root=$1 user=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec setpriv --no-new-privs chroot --userspec="$user" "$root" "$@"
"""


class Image:
    """The built image, whose files are in `root`."""

    def __init__(self, root: Path, configuration: dict[str, Any], size: str) -> None:
        self.root = root
        self.size = size
        self.user = configuration["User"]
        self.directory = configuration["WorkingDir"]
        self.default_command: list[str] = configuration["Cmd"]
        self.health_check: list[str] = configuration["Healthcheck"]["Test"][1:]
        self.environment: list[str] = configuration["Env"]

    def run(self, environment: Mapping[str, str], command: list[str]) -> str:
        """Run a command in a container of its own, and return its output. Raises `CalledProcessError`."""
        arguments = self.arguments(environment, command)
        return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def arguments(self, environment: Mapping[str, str], command: list[str]) -> list[str]:
        """Return the command line of a container."""
        variables = [*self.environment, *(f"{name}={value}" for name, value in environment.items())]
        container = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER, "container"]
        return [*container, str(self.root), self.user, "env", "-i", "-C", self.directory, *variables, *command]


class Container:
    """A running container of the image, by default with its default command. It writes to the file `log`."""

    def __init__(
        self, image: Image, environment: Mapping[str, str], log: Path, command: list[str] | None = None
    ) -> None:
        self.log = log
        with log.open("w") as output:
            arguments = image.arguments(environment, command or image.default_command)
            self.process = subprocess.Popen(arguments, stdout=output, stderr=output)

    def stop(self) -> int:
        """Send SIGTERM to the first process of the container, as container engines do, and return its status."""
        if self.process.poll() is None:
            for first in psutil.Process(self.process.pid).children():
                first.terminate()
        return self.process.wait(STOP_SECONDS)


class Buildah:
    """buildah with its images in a directory of its own."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage

    def __call__(self, *arguments: str) -> str:
        """Run a command of buildah, and return its output. Raises `CalledProcessError`."""
        places = ("--root", str(self.storage / "images"), "--runroot", str(self.storage / "run"))
        command = ["buildah", *places, *arguments]
        return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def build(self, base: str, version: str) -> None:
        """Build the image on `base`, which is pulled; if it is empty, on one of Debian's packages."""
        pull = () if base else ("--pull-never",)
        # Packages come over the network of this machine. The certificates are those of its proxy, if it has one.
        network = ("--isolation", "chroot", "--network", "host", "--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro")
        arguments = ("--build-arg", f"BASE={base or self.debian()}", "--build-arg", f"VERSION={version}")
        # The OCI format has no health checks.
        self("bud", "--format", "docker", "--quiet", *pull, *network, *arguments, "--tag", NAME, ".")

    def debian(self) -> str:
        """Return the name of a base of Debian's packages, which the first call makes."""
        name = f"localhost/{DEBIAN}-python"
        if not self("images", "--quiet", "--filter", f"reference={name}"):
            archive = self.storage / "base.tar"
            command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={DEBIAN_PACKAGES}", DEBIAN]
            subprocess.run([*command, archive], check=True)
            container = self("from", "scratch")
            self("add", "--quiet", container, str(archive), "/")
            self("commit", "--quiet", "--rm", container, name)
            archive.unlink()
        return name

    @contextmanager
    def mounted(self) -> Iterator[Image]:
        """Mount the files of the built image."""
        container = self("from", "--pull-never", NAME)
        try:
            configuration = json.loads(self("inspect", container))["Docker"]["config"]
            size = self("images", "--format", "{{.Size}}", NAME)
            yield Image(Path(self("mount", container)), configuration, size)
        finally:
            self("rm", container)
