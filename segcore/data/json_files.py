"""JSON files that come from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segcore.data.integrity import check_readable
from segcore.errors import DataError


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises
    ------
    DataError
        It is missing, or no JSON.
    """
    check_readable(path)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}.", "Export or copy the file again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
