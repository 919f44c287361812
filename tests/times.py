"""Times in responses, to compare as times: "…:30Z" sorts after "…:30.003Z"."""

import datetime


def time_of(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
