"""Exceptions that tell a person what to do: the command line prints their message without a traceback, and exits with 2."""


class InputError(ValueError):
    """Input that cannot be used: the message names the file, node, key or value and what is accepted."""


class Diverged(RuntimeError):
    """The loss or the weights are no longer finite; the message says at which epoch and batch."""
