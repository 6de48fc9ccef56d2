"""The two ways in which a command can fail for a reason that we can name."""


class RequestError(ValueError):
    """What was asked for is wrong (a key, a file, a record): one line that says what and the way out; exit status 2."""


class RunFailed(RuntimeError):
    """The request was fine and the run failed (a non-finite loss, a full disk): one line; exit status 1."""
