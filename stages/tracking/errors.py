"""Why something did not arrive."""

import contextlib
import re
from collections.abc import Iterator

# MLflow's names for "this is wrong, and will be next time".
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class DeliveryError(Exception):
    """The server did not take what was sent: it is gone, slow or full. Later it may."""


class RefusedError(DeliveryError):
    """The server calls what was sent wrong."""


@contextlib.contextmanager
def said_plainly() -> Iterator[None]:
    """Turns whatever MLflow and the libraries under it raise into one line that says the cause."""
    try:
        yield
    except DeliveryError:
        raise
    except Exception as error:
        refused = getattr(error, "error_code", None) in _REFUSALS
        raise (RefusedError if refused else DeliveryError)(_cause(error)) from error


def _cause(error: BaseException) -> str:
    """Returns the first line of the error at the bottom of the chain: a socket's, a disk's."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return without_password(next(iter(str(error).splitlines()), "") or type(error).__name__)


def without_password(text: str) -> str:
    """Returns `text` with the user and password of every address left out."""
    return re.sub(r"//[^/@\s]*@", "//", text)
