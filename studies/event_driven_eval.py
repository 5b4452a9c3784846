"""Run trained networks event by event: what ``mtt-brian eval`` does; --help shows examples."""

import sys

from mtt_brian import cli

if __name__ == "__main__":
    sys.exit(cli.main("eval"))
