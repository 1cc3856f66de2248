"""Errors and warnings about something that a user can fix, each said in one line."""


class InputError(ValueError):
    """Something a user gave is wrong.

    The message says what must hold, where (file, key, value) and the way out. Commands print it
    without a traceback and stop; everything else is a bug of ours and keeps its traceback.
    """


class InputWarning(UserWarning):
    """Something a user should fix, though work goes on without it.

    Commands print the message alone, without the line of code that warns.
    """
