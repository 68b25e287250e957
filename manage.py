#!/usr/bin/env python
"""Django's command line for Relay Web."""

import os
import sys


def main() -> None:
    """Run one command; a wrong value in the environment ends it with a sentence instead of a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "relay_web.settings")
    from django.conf import settings
    from django.core.management import execute_from_command_line

    from relay_web.environment import WrongValueError

    try:
        _ = settings.DEBUG  # reads the environment
    except WrongValueError as error:
        sys.exit(f"relay-web: {error}")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
