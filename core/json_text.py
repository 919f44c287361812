"""JSON that people type into a form."""

from json import JSONDecodeError
from typing import Any

from rest_framework.exceptions import ParseError, ValidationError

from core.api.json_input import parsed, problem_in


def parsed_text(text: str) -> Any:
    """Return the value of a JSON text, by the rules of the API.

    Raises `ValidationError` with one sentence: the first mistake and its line, or the path of the first value that
    cannot be stored.
    """
    try:
        value = parsed(text.encode(errors="replace"), "The text")
    except ParseError as error:
        mistake = error.__cause__
        if not isinstance(mistake, JSONDecodeError):
            raise ValidationError([f"This is not valid JSON: {mistake}."]) from error
        place = f"line {mistake.lineno}, column {mistake.colno}"
        raise ValidationError([f"This is not valid JSON ({place}). Names and texts need double quotes."]) from error
    if found := problem_in(value):
        raise ValidationError([f"{found.path}: {found.sentence}".removeprefix(": ")])
    return value
