"""Long jobs, and how they are stopped: by their user's button, or when the user leaves."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock


class Stopped(Exception):
    """Raised inside a job that was asked to stop."""


class Jobs:
    """The running jobs of all sessions."""

    def __init__(self):
        self._running: dict[str | None, set[Event]] = defaultdict(set)
        self._lock = Lock()

    @contextmanager
    def running(self, session: str | None) -> Iterator[Event]:
        """A job of a session; it stops soon after the event is set."""
        event = Event()
        with self._lock:
            self._running[session].add(event)
        try:
            yield event
        finally:
            with self._lock:
                self._running[session].discard(event)
                if not self._running[session]:
                    del self._running[session]

    def stop(self, session: str | None) -> int:
        """Asks all jobs of a session to stop; how many there are."""
        with self._lock:
            events = list(self._running.get(session, ()))
        for event in events:
            event.set()
        return len(events)
