"""Sentences for the failures of a command that its operator can mend. All other failures keep their traceback."""

import re

from django.conf import settings
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from core.mongodb import embedded
from core.mongodb.errors import database_cause, is_database_unavailable, is_write_conflict

NO_REPLICA_SET = (
    "MongoDB at MONGODB_URI is a single server without transactions. "
    "Set the address of a replica set or of a sharded cluster."
)
LOGIN_NEEDED = "MongoDB requires a login. Set a user name and a password in MONGODB_URI."
# MongoDB's error codes.
SENTENCES = {
    13: "MongoDB does not give the user in MONGODB_URI the needed rights: {reason}. Give it the role readWrite.",
    18: "MongoDB refuses the user name or the password in MONGODB_URI. Correct them.",
    20: NO_REPLICA_SET,
    263: NO_REPLICA_SET,
    8000: "MongoDB refuses the user name or the password in MONGODB_URI. Correct them.",
    14031: "The disk of MongoDB is full. Free space there, and try again.",
}
UNREACHABLE = (
    "MongoDB does not respond ({reason}). Check the address in MONGODB_URI, and that the server runs and has a primary."
)
LOCKED = (
    "Another process is changing the same documents. If it was killed in a transaction, MongoDB keeps them locked for "
    "a minute. Try again then."
)
# The driver repeats its time-outs for each server, and then describes its whole view of the servers.
DETAILS = re.compile(r" \(configured timeouts:[^)]*\)|, Timeout: .*", re.DOTALL)
# MongoDB shows the whole of a command that it refuses, of which the name is enough.
COMMAND = re.compile(r"(?<=to execute command )\{ (\w+):.*", re.DOTALL)


def sentence(error: BaseException) -> str | None:
    """Return what went wrong and what to do, without the password of `MONGODB_URI`, or None for any other failure."""
    cause = database_cause(error)
    match cause:
        case OperationFailure(code=13) if reason_of(cause).endswith("requires authentication"):
            return LOGIN_NEEDED
        case OperationFailure(code=code) if code in SENTENCES:
            return SENTENCES[code].format(reason=reason_of(cause))
        case ConfigurationError():
            return f"MONGODB_URI cannot be used: {reason_of(cause)}. Correct the address."
        case PyMongoError() if is_write_conflict(error):
            return LOCKED
        case PyMongoError() if is_database_unavailable(error):
            embedded_ended = not settings.MONGODB_URI and not embedded.server().is_running
            return (
                embedded.server().failure_message() if embedded_ended else UNREACHABLE.format(reason=reason_of(cause))
            )
        case _:
            return None


def reason_of(error: PyMongoError) -> str:
    text = str((error.details or {}).get("errmsg", error) if isinstance(error, OperationFailure) else error)
    return COMMAND.sub(r"\1", DETAILS.sub("", text)).rstrip(".")
