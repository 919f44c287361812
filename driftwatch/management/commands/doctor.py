"""`manage.py doctor`: prints the state of the service and of its database."""

import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from driftwatch.doctor import Section, examine
from driftwatch.doctor.finding import State


class Command(BaseCommand):
    help = "Print the state of the service and its database. The status is 1 if there is a problem."
    # The report has their results.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        sections = []
        for section in examine():
            sections.append(section)
            if not options["json"]:
                self.stdout.write(table(section))
                self.stdout.flush()
        counts = Counter(finding.state for _, findings in sections for finding in findings)
        problems, warnings = counts[State.PROBLEM], counts[State.WARNING]
        if options["json"]:
            found = [{"section": title, **asdict(finding)} for title, findings in sections for finding in findings]
            report = {"status": "problem" if problems else "ok", "findings": found}
            self.stdout.write(json.dumps(report, indent=2, ensure_ascii=False))
        else:
            self.stdout.write(f"Problems: {problems}. Warnings: {warnings}.")
        if problems:
            sys.exit(1)


def table(section: Section) -> str:
    """Return a section as aligned lines. Advice stands below its finding."""
    title, findings = section
    width = max(len(finding.name) for finding in findings)
    lines = [title]
    for finding in findings:
        lines.append(f"  {finding.name:{width}}  {finding.state:7}  {finding.text}")
        if finding.advice:
            lines.append(f"  {'':{width}}  {'':7}  {finding.advice}")
    return "\n".join([*lines, ""])
