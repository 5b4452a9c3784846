"""Train a network: what ``mtt-brian train`` does; --help shows examples."""

import sys

from mtt_brian import cli

if __name__ == "__main__":
    sys.exit(cli.main("train"))
