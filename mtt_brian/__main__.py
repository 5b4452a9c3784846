"""``python -m mtt_brian`` is ``mtt-brian``."""

import sys

if __name__ == "__main__":
    try:
        from mtt_brian.cli import entry_point

        status = entry_point()
    except KeyboardInterrupt:  # before or behind the command, which says itself that it was stopped
        status = 130
    sys.exit(status)
