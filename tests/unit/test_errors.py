"""What the system says of a place is a sentence; what it says of anything else is a bug."""

import errno
import os
from collections.abc import Callable

import pytest

from errors import USER_ERROR, exit_status


def refused(number: int, *names: str) -> Callable[[], int]:
    def command() -> int:
        raise OSError(number, os.strerror(number), *names)

    return command


def test_a_place_that_cannot_be_used_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for number, text in [
        (errno.EACCES, "Permission denied"), (errno.ENAMETOOLONG, "File name too long"),
        (errno.EROFS, "Read-only file system"), (errno.ENOTDIR, "Not a directory"),
    ]:  # fmt: skip
        assert exit_status(refused(number, "/closed/é")) == USER_ERROR
        assert f"error: /closed/é cannot be used ({text})" in capsys.readouterr().err


def test_another_error_keeps_its_traceback() -> None:
    for number, names in ((errno.EACCES, ()), (errno.ECONNREFUSED, ("host",))):
        with pytest.raises(OSError, match=r"denied|refused"):
            exit_status(refused(number, *names))
