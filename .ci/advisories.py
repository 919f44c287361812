"""Fail on a known advisory, and report packages that could not be audited: `advisories.py pip-audit …`.

pip-audit alone is not enough. Without a network it fails as if it had found an advisory. Behind a mirror
that has packages but no advisories, it skips every package and reports no finding.
"""

import json
import subprocess
import sys
from typing import Any

UNREACHABLE = ("requests.exceptions.", "your network may be blocking this service")


def main(command: list[str]) -> str | None:
    """Return the message to fail with, or None."""
    options = ["--format", "json", "--progress-spinner", "off"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if run.stdout.strip():
        return judge(json.loads(run.stdout)["dependencies"])
    if not any(sign in run.stderr for sign in UNREACHABLE):
        return run.stderr or f"pip-audit ended with status {run.returncode} and no report."
    print(f"NOT AUDITED: the advisory source cannot be reached: {run.stderr.strip().splitlines()[-1]}")
    return None


def judge(packages: list[dict[str, Any]]) -> str | None:
    skipped = [package for package in packages if "skip_reason" in package]
    if skipped:
        reason = skipped[0]["skip_reason"]
        print(f"NOT AUDITED: {len(skipped)} of {len(packages)} packages, the first of them because: {reason}")
    print(f"Audited: {len(packages) - len(skipped)} of {len(packages)} packages.")
    found = [
        f"{package['name']} {package['version']}: {advisory['id']}, "
        f"fixed in {', '.join(advisory['fix_versions']) or 'no version yet'}"
        for package in packages
        for advisory in package.get("vulns", [])
    ]
    return "\n".join(found) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
