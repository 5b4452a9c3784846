"""The one exception type for bad user input."""


class InputError(ValueError):
    """Input that cannot be used: the message names the file, node, key or value and what is accepted.

    The command-line scripts print it without a traceback and exit with status 2.
    """
