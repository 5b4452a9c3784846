"""``python -m mtt_brian`` is ``mtt-brian``."""

import sys

if __name__ == "__main__":
    try:
        from mtt_brian.cli import entry_point

        status = entry_point()
    except KeyboardInterrupt:  # before or after the command, which prints its own message when it is stopped
        status = 130
    sys.exit(status)
