"""`python -m benchmarks.compare few.json many.json`: compare the times with few and with many runs."""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import markdown, shown


def main(few: str, many: str) -> None:
    sys.stdout.write(f"{comparison(*(json.loads(Path(file).read_text()) for file in (few, many)))}\n")


def comparison(few: dict[str, Any], many: dict[str, Any]) -> str:
    """The median times of two benchmark results side by side."""
    heading = ["operation", *(f"p50 ms at {outcome['runs']:,} runs" for outcome in (few, many)), "ratio"]
    before = {row["operation"]: row["p50_ms"] for row in few["operations"]}
    lines = []
    for row in many["operations"]:
        was, became = before.get(row["operation"]), row["p50_ms"]
        lines.append([row["operation"], shown(was), shown(became), shown(became / was if was and became else None)])
    return markdown(heading, lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
