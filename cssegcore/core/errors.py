"""The one error a person can fix: bad input, said in one line."""


class InputError(ValueError):
    """Something a user gave is wrong.

    The message says what must hold, where (file, key, value) and the way out. Commands print it
    without a traceback and stop; everything else is a bug of ours and keeps its traceback.
    """
