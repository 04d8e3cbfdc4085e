"""Text of foreign origin (captions, file names, messages) made safe for a terminal."""

from __future__ import annotations

from typing import TextIO


def printable(text: str) -> str:
    r"""The text with every character that is no print (control characters, terminal escapes, marks that turn the
    direction of writing, lone surrogates) as its escape (\x1b); newline and tab stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


class Printable:
    """A text stream that writes everything through `printable`, as far as the stream's encoding can say it."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Returns the number of characters of `text`, as `TextIO.write` does."""
        safe = printable(text).encode(self.encoding, "backslashreplace").decode(self.encoding)
        self._stream.write(safe)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        """Never one: what asks would add colours, which are escapes."""
        return False

    def fileno(self) -> int:
        return self._stream.fileno()
