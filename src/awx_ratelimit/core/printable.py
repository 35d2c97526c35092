"""Text of others as it may be shown: what a terminal, a log or a reader would obey or not see is written as an escape.

A file's name, a gateway's answer or a name in a database can hold escape sequences, line feeds and marks that turn the
direction of writing.
"""


def visible(text: str) -> str:
    r"""`text` with each character that cannot be seen as ``\x1b``, ``\u202e`` and the like; a space is left."""
    return text if text.isprintable() else "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
