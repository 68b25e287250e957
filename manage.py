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
    try:
        execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head`: whoever listened has heard enough, which is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
