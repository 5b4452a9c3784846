"""``python -m mtt_brian`` is ``mtt-brian``."""

import sys

from mtt_brian.console import entry_point

if __name__ == "__main__":
    sys.exit(entry_point())
