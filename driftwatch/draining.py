"""The time between SIGTERM and the end of gunicorn, in which balancers notice that they must use other instances.

By default, gunicorn stops to accept connections at SIGTERM, and a balancer learns of it from refused connections.
"""

import mmap
import signal
from typing import Any

# One byte that gunicorn's main process shares with the workers that it forks.
_begun = mmap.mmap(-1, 1)


def is_draining() -> bool:
    """Return whether the service stops soon: it still serves requests, but should get no new ones."""
    return _begun[0] == 1


def drain_before_stop(arbiter: Any, seconds: float) -> None:
    """Have gunicorn serve for some seconds more after SIGTERM. A second SIGTERM stops it at once.

    A process that shares its port with another one, after SIGUSR2, stops at once: the port stays open, and a check of
    readiness would reach either.
    """
    stop = arbiter.handle_term

    def handle_term() -> None:
        if is_draining() or arbiter.reexec_pid or arbiter.master_pid:
            stop()
        _begun[0] = 1
        arbiter.log.info("Draining for %g s: /readyz responds with 503, and requests are served.", seconds)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    arbiter.handle_term = handle_term
    signal.signal(signal.SIGALRM, lambda *_: arbiter.signal(signal.SIGTERM, None))
