"""Node.js and the tools that `npm ci` installs here, as `make test` does where there is npm."""

import shutil
from pathlib import Path

FOLDER = Path(__file__).parent
BIN = FOLDER / "node_modules" / ".bin"
NODE = shutil.which("node") if BIN.exists() else None
