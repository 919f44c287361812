"""Refuse comments and docstrings that a reader has to puzzle over: `wording.py [FILE …]`, by default all tracked files.

A comment or a docstring begins with a verb or with the thing that it is about, never with a pronoun, a question
word or a preposition that leaves the thing for later. It also avoids the words below that name no idea of the field.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

BEGINNINGS = frozenset(
    "i you he she it its we they them their theirs this that these those there "
    "what whatever who whoever whom whomever whose which whichever when whenever where wherever why how whether "
    "nobody nothing none somebody someone something anybody anyone anything everybody everyone everything "
    "as of for without".split()
)
AVOIDED = re.compile(
    r"\b(deeds?|doors?|the cast|gone by|by now|all day|anew|put away|whoever|whomever)\b", re.IGNORECASE
)
# Instructions to tools, not sentences.
DIRECTIVE = re.compile(r"!|noqa|nosec|type:|pragma|fmt:|mypy:|/// ")
FIRST_WORD = re.compile(r"[\"'“(*_\s]*([A-Za-z]+)")
# The comments of each kind of file, whose texts are the groups. A block of `//` or `#` lines is one comment.
COMMENTS = {
    ".html": re.compile(r"\{#(.*?)#\}|\{% comment %\}(.*?)\{% endcomment %\}|<!--(.*?)-->", re.DOTALL),
    ".css": re.compile(r"/\*(.*?)\*/", re.DOTALL),
    ".js": re.compile(r"(?:(?<=^)|(?<=\n))[ \t]*((?://[^\n]*(?:\n[ \t]*|\Z))+)|/\*(.*?)\*/|[ \t](//[^\n]*)", re.DOTALL),
}
HASHES = re.compile(r"(?:(?<=^)|(?<=\n))[ \t]*((?:#[^\n]*(?:\n[ \t]*|\Z))+)|[ \t](#[ ][^\n]*)")
WITH_HASHES = {".toml", ".yaml", ".yml", ".sh", ".in", ".conf", ".editorconfig", ".dockerfile", ""}


def main(names: list[str]) -> int:
    """Print each comment that is refused, as `file:line: reason`, and return how many there are."""
    problems = [problem for name in names or tracked_files() for problem in problems_in(Path(name))]
    print("\n".join(problems), file=sys.stderr)
    return len(problems)


def tracked_files() -> list[str]:
    names = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout.split("\0")  # noqa: S607
    return [name for name in names if Path(name).is_file()]


def problems_in(path: Path) -> Iterator[str]:
    try:
        comments = list(comments_in(path))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        yield f"{path}:1: cannot be read: {error}"
        return
    for line, text in comments:
        first = FIRST_WORD.match(text)
        if first and first[1].lower() in BEGINNINGS:
            yield f"{path}:{line}: begins with “{first[1]}”: name the thing, or begin with a verb"
        for avoided in AVOIDED.finditer(text):
            yield f"{path}:{line}: says “{avoided[0]}”: use the field's word"


def comments_in(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the text of each comment and docstring. Files of unknown kinds have none."""
    if path.suffix == ".py":
        source = path.read_text()
        yield from docstrings_in(source)
        yield from python_comments_in(source)
    elif pattern := COMMENTS.get(path.suffix, HASHES if path.suffix in WITH_HASHES else None):
        source = path.read_text()
        for found in pattern.finditer(source):
            text = next(filter(None, found.groups()), "")
            yield (
                source.count("\n", 0, found.start()) + 1,
                re.sub(r"^[ \t]*(?://|#)[ \t]?", "", text, flags=re.MULTILINE),
            )


def docstrings_in(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring is not None:
                yield node.body[0].lineno, docstring


def python_comments_in(source: str) -> Iterator[tuple[int, str]]:
    """The comments, each block of whole lines as one."""
    block: list[str] = []
    start = end = column = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text = token.string.removeprefix("#").strip()
        if token.type != tokenize.COMMENT or DIRECTIVE.match(text):
            continue
        line, place = token.start
        if block and line == end + 1 and place == column and token.line.lstrip().startswith("#"):
            block.append(text)
        else:
            if block:
                yield start, "\n".join(block)
            block, start, column = [text], line, place
        end = line
    if block:
        yield start, "\n".join(block)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) and 1)
