"""Names of images, out of which stages make the names of the files that they write."""

import unicodedata

UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of controls, of bytes that are no UTF-8, and of line and page ends."""


TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of what follows, so that a text reads as another one."""


def unprintable(text: str) -> bool:
    """Whether a text holds control or direction characters."""
    return printable(text) != text


def printable(text: str) -> str:
    """Returns a text as it may stand on a terminal, with � for what is more than text there."""
    return "".join(
        "�" if c in TURNING or unicodedata.category(c) in UNPRINTABLE else c for c in text
    )


def unfit(name: str) -> str:
    """Returns why a name cannot be that of a file below any folder, "" if it can.

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
