"""What JSON text from elsewhere says."""

import json
from typing import Any


def json_value(data: str | bytes) -> Any:  # noqa: ANN401 - as the library has it
    """Return what the text says, in any form.

    Raises:
        ValueError: It is no JSON, or is nested deeper than can be read.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
