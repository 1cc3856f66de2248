"""Names of images, out of which stages make names of files, and of classes."""

import unicodedata

BACKGROUND_NAMES = ("background", "_background_", "__background__", "bg")
"""Names by which tools call label 0, in small letters."""

UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of controls, of bytes that are no UTF-8, and of line and page ends."""


TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the following text, so that it reads as another."""


def unprintable(text: str) -> bool:
    """Whether a text holds control or direction characters."""
    return printable(text) != text


def printable(text: str) -> str:
    """Returns a text for a terminal: � replaces control and direction characters."""
    return "".join(
        "�" if c in TURNING or unicodedata.category(c) in UNPRINTABLE else c for c in text
    )


def unfit_class(name: str) -> bool:
    """Returns whether a text cannot name a class: empty, padded, or with control characters."""
    return not name or name.strip() != name or unprintable(name)


def unfit(name: str) -> str:
    """Returns the reason that a name cannot be a file's name below a folder; "" if it can.

    A stage writes `FOLDER/NAME.png`. So a name is a relative path that stays below the folder in
    whatever folder it is put, and that says the same in a list, in a table and on a terminal.
    """
    if "\t" in name:
        return "it holds a tab, as between columns: a line is one name"
    if unprintable(name):
        return "it holds a control character or is no UTF-8"
    if name.startswith("/"):
        return "it begins at the file system's root"
    parts = name.split("/")
    if ".." in parts:
        return "it leaves its folder by `..`"
    if "" in parts or "." in parts:
        return "it has an empty part or `.`, so that one file has two names"
    return ""
