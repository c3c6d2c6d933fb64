"""Reading JSON files of data: every mistake names the file and the place in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from errors import DataError


def read_json(path: Path) -> Any:
    """The content of a file.

    Raises:
        DataError: it cannot be read, is not UTF-8 or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}. "
            "It may be cut short: repair it there, or write or fetch it again."
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8 text."
        ) from None
    except OSError as error:
        raise DataError(
            f"the file {path} cannot be read ({error.strerror}). Check its name and permissions."
        ) from None
