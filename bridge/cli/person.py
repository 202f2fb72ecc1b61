"""Who gives an order."""

from __future__ import annotations

import os
import pwd


def user() -> str:
    """The user of the operating system; not what an environment variable says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
