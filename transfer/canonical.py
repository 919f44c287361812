"""Documents as lines of MongoDB's canonical Extended JSON, which keeps the type of every value.

https://github.com/mongodb/specifications, "Extended JSON". The driver's `json_util` takes twice as long to write a run.
"""

import re
from collections.abc import Callable
from json import JSONEncoder
from json.encoder import encode_basestring as quoted
from math import isfinite
from typing import Any

import bson
from bson import json_util
from bson.codec_options import DEFAULT_CODEC_OPTIONS, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.json_util import JSONMode, JSONOptions

from core.mongodb.documents import Document

# Times as their milliseconds: MongoDB has times that Python does not have, and reading takes two thirds of the time.
EXACT = DEFAULT_CODEC_OPTIONS.with_options(datetime_conversion=DatetimeConversion.DATETIME_MS)
CANONICAL = JSONOptions(json_mode=JSONMode.CANONICAL, datetime_conversion=DatetimeConversion.DATETIME_MS)
rest = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# A name with a dollar, after the byte that has the type of the value in BSON; the end of a number that is not finite.
SUSPICIOUS = re.compile(rb"[\x01-\x13\x7f\xff]\$|[\xf0-\xff][\x7f\xff]")


def line_of(raw: bytes) -> bytes:
    """Return the line of a stored document.

    A document that would not be read back byte by byte is written as binary data. One reason is an object of a client
    that Extended JSON takes for a value, such as `{"$date": "today"}`.
    """
    try:
        document = bson.decode(raw, EXACT)
        line = text_of(document).encode()
        is_exact = bson.encode(document) == raw and (not SUSPICIOUS.search(raw) or read(line)[0] == raw)
    except Exception:  # noqa: BLE001 - the driver raises many kinds for objects that are like values
        is_exact = False
    return line if is_exact else text_of(raw).encode()


def read(line: bytes) -> tuple[bytes, Document]:
    """Return the document of a line as it is stored, and decoded."""
    value = json_util.loads(line, json_options=CANONICAL)
    if isinstance(value, bytes):
        return value, bson.decode(value, EXACT)
    return bson.encode(value), value


def text_of(value: Any) -> str:
    write = WRITERS.get(type(value))
    return write(value) if write else rest(json_util.default(value, CANONICAL))


def text_of_float(value: float) -> str:
    return f'{{"$numberDouble":"{value!r}"}}' if isfinite(value) else rest(json_util.default(value, CANONICAL))


WRITERS: dict[type, Callable[[Any], str]] = {
    str: quoted,
    dict: lambda value: "{" + ",".join([f"{quoted(name)}:{text_of(each)}" for name, each in value.items()]) + "}",
    list: lambda value: "[" + ",".join([text_of(each) for each in value]) + "]",
    float: text_of_float,
    # The driver reads 64-bit integers as `Int64`.
    int: lambda value: f'{{"$numberInt":"{value}"}}',
    DatetimeMS: lambda value: f'{{"$date":{{"$numberLong":"{int(value)}"}}}}',
    bool: lambda value: "true" if value else "false",
    type(None): lambda value: "null",
}
