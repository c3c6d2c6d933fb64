"""What a job of a sweep hands on to the next one in its process: objects that are slow to load.

A job that fails hands on nothing, so that it cannot spoil the next one. Outside of sweeps nothing
is taken and nothing stays.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class BetweenJobs:
    """Objects by name, each with what it was made of; one of a name at a time.

    Attributes:
        in_job: whether a job of a sweep runs.
    """

    def __init__(self) -> None:
        self._values: dict[str, tuple[object, Any]] = {}
        self.in_job = False

    @contextmanager
    def job(self) -> Iterator[None]:
        """A job runs in the block; it alone takes and leaves."""
        self.in_job = True
        try:
            yield
        except BaseException:
            self._values.clear()
            raise
        finally:
            self.in_job = False

    def take(self, name: str, made_of: object) -> Any | None:
        """What the job before has left, if it was made of the same; what was not is given up."""
        found, value = self._values.pop(name, (None, None))
        return value if self.in_job and found == made_of else None

    def leave(self, name: str, made_of: object, value: Any) -> None:
        """Hands an object on, if a sweep runs."""
        if self.in_job:
            self._values[name] = (made_of, value)


between_jobs = BetweenJobs()
