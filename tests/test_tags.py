"""Tags as a form shows and reads them: in one line, separated by commas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.tags import tags_of, written_tags
from tests.filter_pairs import reproducible


@given(st.lists(st.text("ab \t,\"'\n\\", min_size=1)))
@reproducible
def test_tags_are_read_as_they_were_written(tags: list[str]) -> None:
    assert tags_of(written_tags(tags)) == tags


@pytest.mark.parametrize("text", ["a, b", " a ,b ", 'a,"b"', ",a,,b,"])
def test_spaces_around_tags_and_empty_tags_are_left_out(text: str) -> None:
    assert tags_of(text) == ["a", "b"]


@pytest.mark.parametrize("text", ["a" + " " * 200_000 + "\n", " " * 200_000 + "\n", '"' + '""' * 100_000])
def test_a_long_text_that_is_no_list_of_tags_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="in one line"):
        tags_of(text)
