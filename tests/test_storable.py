"""What a body shows at a glance, and what is found by walking through its value."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.api.parsers import is_plainly_storable, parsed
from core.json_values import SURROGATE, problem_in
from tests.conftest import RUN

texts = st.text() | st.sampled_from(["\0", "\ud800", "\udfff", "$ref", "$id", "$db", "\\u0000", "1e999"])
numbers = st.integers() | st.integers(2**62, 2**65) | st.integers(-(2**65), -(2**62)) | st.floats(allow_nan=False)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda items: st.lists(items) | st.dictionaries(texts, items),
)


def written(value: Any, is_ascii: bool) -> bytes:
    """As a client may write it. Some write infinite numbers as ones that are too large."""
    text = json.dumps(value, ensure_ascii=is_ascii).replace("Infinity", "1e999")
    return SURROGATE.sub(lambda found: f"\\u{ord(found[0]):x}", text).encode()


@given(values, st.booleans())
@example({"$ref": "a", "$id": 1, "$db": None}, False)
@example([[[]] * 60], True)
def test_what_shows_at_a_glance_that_it_can_be_stored_can_be(value: Any, is_ascii: bool) -> None:
    body = written(value, is_ascii)
    if is_plainly_storable(body):
        assert problem_in(parsed(body)) is None


@pytest.mark.parametrize("depth", range(48, 53))
def test_depth_shows_at_a_glance(depth: int) -> None:
    body = b"[" * depth + b"1" + b"]" * depth
    assert is_plainly_storable(body) == (problem_in(parsed(body)) is None)


@pytest.mark.parametrize(
    "number", ["1e308", "1e309", "-1E+0400", "9" * 19, "-" + "9" * 400 + ".5", "9223372036854775808"]
)
def test_a_number_near_its_bounds_is_looked_at(number: str) -> None:
    assert not is_plainly_storable(f'{{"p": {number}}}'.encode())


def test_an_ordinary_run_shows_at_a_glance_that_it_can_be_stored() -> None:
    parameters = {"p_value": 1e-12, "größe": [1, 2.5, -3e7, None, True], "letters": 'of "the" world\n'}
    assert is_plainly_storable(json.dumps({**RUN, "parameters": parameters}, ensure_ascii=False).encode())
