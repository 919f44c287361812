"""The check of comments and docstrings, which `make wording` runs, and the text that CONTRIBUTING quotes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHECK = ROOT / ".ci" / "wording.py"


def refusals(path: Path, text: str) -> list[str]:
    """Return the lines that the check prints for a file with this text."""
    path.write_text(text)
    run = subprocess.run([sys.executable, str(CHECK), str(path)], capture_output=True, text=True, check=False)
    lines = run.stderr.strip().splitlines()
    assert run.returncode == bool(lines), run
    return lines


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("module.py", '"""What a module holds."""\n'),
        ("function.py", 'def f() -> None:\n    """Whom it calls."""\n'),
        ("class.py", 'class A:\n    """It counts."""\n'),
        ("comment.py", "x = 1\n# Those are counted.\n"),
        ("trailing.py", "x = 1  # nobody asks\n"),
        ("page.html", "<p>{# How it looks. #}</p>"),
        ("block.html", "{% comment %}\nWhere it stands.\n{% endcomment %}"),
        ("style.css", "/* As on the pages. */"),
        ("script.js", "const x = 1;\n// Whether it is there.\n"),
        ("block.js", "/* They wait. */"),
        ("Makefile", "# Which targets there are.\nall:\n"),
        ("end.toml", "# It has no end of line"),
        ("broken.py", "def (:"),
        ("avoided.py", "# The request was sent anew.\n"),
    ],
)
def test_a_comment_that_leaves_its_subject_for_later_is_refused(tmp_path: Path, name: str, text: str) -> None:
    assert len(refusals(tmp_path / name, text)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "module.py",
            '"""The counters of requests."""\n\n# Count once.\n# It may take long.\nx = "What?"  # noqa: F841\n',
        ),
        ("page.html", "<p>What happened</p>{# The reason. #}"),
        ("script.js", 'const text = "What"; // The label.\n'),
        ("Makefile", "# List the targets.\nall:\n"),
        ("notes.md", "What this is"),
    ],
)
def test_other_comments_and_texts_are_accepted(tmp_path: Path, name: str, text: str) -> None:
    assert not refusals(tmp_path / name, text)


def test_the_first_change_of_contributing_finds_its_text_in_a_template() -> None:
    quoted = re.findall(r'`git grep -n "([^"]+)"', (ROOT / "CONTRIBUTING.md").read_text())
    templates = [path.read_text() for path in (ROOT / "templates").rglob("*.html")]
    assert quoted
    for text in quoted:
        assert any(text in template for template in templates), text
