"""Who runs a command: the operating system's word for them, which the audit keeps."""

from __future__ import annotations

import os
import pwd


def system_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
