"""Exceptions whose message tells a person what to do: command lines print it without a traceback and exit with 2."""


class InputError(ValueError):
    """Input that cannot be used: the message names the file, node, key or value and what is accepted."""


class Diverged(RuntimeError):
    """The loss or the weights are no longer finite; the message says at which epoch and batch."""


class CacheWarning(UserWarning):
    """Something kept for later was damaged and is made anew, or nothing can be kept; results do not depend on it."""
