"""The number and the duration of the commands that the driver sends: in the metrics, and in the work on a request."""

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from core.client import current_work
from core.metrics import COMMANDS, FAILED_COMMANDS


class CommandCounter(CommandListener):
    """Counts each command. The driver calls it in the thread of the request that sent the command."""

    def started(self, event: CommandStartedEvent) -> None:
        """Do nothing: the driver measures the duration."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Count a command that MongoDB has answered."""
        count(event)

    def failed(self, event: CommandFailedEvent) -> None:
        """Count a command that MongoDB refused, or that got no response."""
        count(event)
        FAILED_COMMANDS.labels(event.command_name).inc()


def count(event: CommandSucceededEvent | CommandFailedEvent) -> None:
    seconds = event.duration_micros / 1_000_000
    COMMANDS.labels(event.command_name).observe(seconds)
    if work := current_work.get():
        work.commands += 1
        work.command_seconds += seconds
