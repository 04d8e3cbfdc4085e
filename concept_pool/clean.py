"""A caption as written -> the sentence that the tagger reads, without web debris. Pure string functions.

The rules, in order: quotes and dashes become ASCII; HTML entities are decoded; placeholders (<PERSON>,
[NAME]) and tags go, then URLs, e-mail addresses, file names, @names and #tags; stock-site debris ("stock
photo", "royalty free", "image 3 of 12", "Photo by ...") goes; hyphens between letters become spaces, so that
"stop-sign" reads like "stop sign"; a title ("Red Car On The Street") or a shout is lower-cased, else only the
first word is.
"""

from __future__ import annotations

import html
import re
import unicodedata

_QUOTES = str.maketrans(
    {
        **dict.fromkeys("‘’´`", "'"), **dict.fromkeys("“”„«»", '"'), **dict.fromkeys("–—", " - "),
        **dict.fromkeys("‐‑", "-"), **dict.fromkeys("©®™\u00a0", " "),
        "…": " ... ", "\u200b": "",
    }
)  # fmt: skip
_MARKUP = re.compile(r"<[^<>]{0,200}>|\[[A-Z_]{2,}\]")
_ADDRESS = re.compile(
    r"(?:https?://|www\.)\S+|\b[\w.+-]{1,64}@[\w-]{1,64}\.[\w.]{1,32}|\b[\w-]+\.(?:com|org|net|co\.uk|info|io)\b(?:/\S*)?",
    re.I,
)
_FILE = re.compile(
    r"\b[\w-]+\.(?:jpe?g|png|gif|tiff?|bmp|webp|svg|pdf|mp4|mov|eps|psd|raw)\b"
    r"|\b(?:IMG|DSC|DSCN|DSCF|PICT)[_-]?\d+\b",
    re.I,
)
_HANDLE = re.compile(r"(?<!\w)[@#]\w+")
_DEBRIS = re.compile(
    r"\b(?:royalty[ -]free|stock)\s+"
    r"(?:photos?|photography|images?|pictures?|vectors?|illustrations?|footage|video)\b"
    r"|\broyalty[ -]free\b|\ball rights reserved\b|\bcopyright\b|\bclick (?:here|to enlarge)\b"
    r"|\b(?:image|photo|picture|page|slide|part|no|number|figure|fig)\.? ?#? ?\d+(?: ?(?:of|/) ?\d+)?"
    r"|\b\d+ ?x ?\d+ ?(?:px|pixels)?\b",
    re.I,
)  # fmt: skip
#: What every match of `_DEBRIS` and `_CREDIT` holds; most captions hold none of it and skip those two.
_DEBRIS_SIGNS = re.compile(r"\d|stock|royalty|reserved|copyright|click| by | courtesy | credit", re.I)
_CREDIT = re.compile(
    r"\b(?:[Pp]hoto|[Pp]hotograph|[Ii]mage|[Pp]icture)s? (?:by|courtesy of|credit:?) [A-Z]\w+(?: [A-Z]\w+)*"
)
_HYPHEN = re.compile(r"(?<=[A-Za-z])-(?=[A-Za-z])")
_WORD = re.compile(r"[A-Za-z][A-Za-z']*")


def clean_caption(caption: str, max_chars: int = 1000) -> str:
    """The caption without debris, ready for the tagger; may be empty. Never raises on a str."""
    text = caption[:max_chars]
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text
        text = unicodedata.normalize("NFKC", text.translate(_QUOTES)).translate(_QUOTES)
    if "&" in text:
        text = html.unescape(text).translate(_QUOTES)
    if "<" in text or "[" in text:
        text = _MARKUP.sub(" , ", text)
    if "." in text[:-2] or "@" in text or "#" in text or "_" in text or "/" in text:
        text = _HANDLE.sub(" ", _FILE.sub(" ", _ADDRESS.sub(" ", text)))
        text = text.replace("/", " / ").replace("_", " ")
    if _DEBRIS_SIGNS.search(text):
        text = _DEBRIS.sub(" , ", _CREDIT.sub(" , ", text))
    if "-" in text:
        text = _HYPHEN.sub(" ", text)
    text = " ".join(text.split()).strip(" ,;:|-*\"'")
    return _truecase(text)


def _truecase(text: str) -> str:
    """Lower-case a title or a shout; else only the first word, if it is capitalised in the usual way."""
    if text.isupper() or sum(map(str.isupper, text)) > 1:
        words = [word for word in _WORD.findall(text) if len(word) > 3]
        if len(words) >= 2 and sum(word[0].isupper() for word in words) >= 0.8 * len(words):
            return text.lower()
    first = _WORD.match(text)
    if first and (first[0][1:].islower() or len(first[0]) == 1):
        return text[0].lower() + text[1:]
    return text
