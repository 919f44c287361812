"""Large JSON bodies: their values are counted before they are decoded, and threads take turns to decode them."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from rest_framework.exceptions import ValidationError

from core.api import bulk, json_input
from core.api.bulk import JSONArrayParser, NDJSONParser
from core.api.json_input import MAX_VALUES, StrictJSONParser, may_have_more_values, number_of_values, parsed
from core.turns import PAUSE, in_turn

LISTS = "[" + "[]," * MAX_VALUES + "[]]"
# JSON and the number of its values.
TEXTS = {
    "1": 1,
    "[]": 1,
    "{ }": 1,
    "[1]": 2,
    '{"a": {"b": [1, [ ], {}, "x"]}}': 7,
    '"[1, 2], {3}"': 1,
    '["[,{", "\\"[,", "\\\\", [0, "\\\\\\",["]]': 7,
    '{"a,[": "b", "c\\"{": [[], [[1]]]}': 7,
    "[ [\n], [ 1 ] ] ": 4,
    '["é,", "😀,"]': 3,
}
MALFORMED = ["", "]", "[", '"', '["\\', "[1", "}{", ",", '"a" "b", [', "\\"]


@pytest.mark.parametrize(("text", "number"), TEXTS.items())
def test_values_are_counted_in_the_text(text: str, number: int) -> None:
    json.loads(text)
    assert number_of_values(text) == number
    assert number_of_values(f"[0, {text}, 0]", len("[0, ")) == number
    assert may_have_more_values(text, number - 1)


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_text_is_counted_too(text: str) -> None:
    assert number_of_values(text) < 10


@pytest.mark.parametrize("text", ['"\\' * 1_000_000, '"\\"' * 1_000_000, "[ " * 1_000_000, '[" ' * 1_000_000])
def test_counting_takes_linear_time(text: str) -> None:
    began = time.thread_time()
    number_of_values(text)
    assert time.thread_time() - began < 10


def test_commas_and_brackets_in_strings_are_no_values() -> None:
    text = json.dumps({"a": ["[,{" * MAX_VALUES, "\\,"]})
    assert may_have_more_values(text)
    assert parsed(text.encode()) == json.loads(text)


def test_too_many_values_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: Any) -> None:
        pytest.fail("The text was decoded.")

    decoder = SimpleNamespace(decode=decode, raw_decode=decode)
    monkeypatch.setattr(json_input, "decoder", decoder)
    monkeypatch.setattr(bulk, "decoder", decoder)
    with pytest.raises(ValidationError, match="more than 500,000 values"):
        StrictJSONParser().parse(BytesIO(LISTS.encode()))
    with pytest.raises(ValidationError, match="Send a JSON array"):
        JSONArrayParser().parse(BytesIO(f'{{"a": {LISTS}}}'.encode()))
    [item] = JSONArrayParser().parse(BytesIO(f'[{{"a": {LISTS}}}, {{}}]'.encode()))
    assert "more than 500,000 values" in item.detail
    [item] = NDJSONParser().parse(BytesIO(f'{{"a": {LISTS}}}'.encode()))
    assert "more than 500,000 values" in item.detail


PARSERS = {"one object": (StrictJSONParser, "%s"), "an array": (JSONArrayParser, "[%s]"), "lines": (NDJSONParser, "%s")}


@pytest.mark.parametrize(("parser", "body"), PARSERS.values(), ids=PARSERS)
def test_threads_take_turns_to_decode_and_check_large_bodies(
    parser: type[StrictJSONParser], body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = threading.Lock()

    def check(value: Any) -> None:
        assert alone.acquire(blocking=False), "another thread decodes or checks"
        time.sleep(0.05)
        alone.release()

    monkeypatch.setattr(json_input, "problem_in", check)
    monkeypatch.setattr(bulk, "problem_in", check)
    large = (body % json.dumps({"a": "x" * 250_000})).encode()
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(lambda _: parser().parse(BytesIO(large)), range(3)))


def test_other_threads_get_the_interpreter_between_two_turns() -> None:
    with suppress(ValueError), in_turn(True):
        ended = time.monotonic()
        raise ValueError
    with in_turn(True):
        assert time.monotonic() - ended >= PAUSE
