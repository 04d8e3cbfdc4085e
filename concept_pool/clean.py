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

from concept_pool.edits import Text

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
_ENTITY = re.compile(r"&(?:#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)")
_SLASH, _UNDERSCORE = re.compile("/"), re.compile("_")
_EDGES = " ,;:|-*\"'"
_HYPHEN = re.compile(r"(?<=[A-Za-z])-(?=[A-Za-z])")
_ADDRESSES = ((_ADDRESS, " "), (_FILE, " "), (_HANDLE, " "), (_SLASH, " / "), (_UNDERSCORE, " "))
_TAIL = _EDGES + "\t\n\r\f\v"
_WORD = re.compile(r"[A-Za-z][A-Za-z']*")


def clean_caption(caption: str, max_chars: int = 1000) -> str:
    """The caption without debris, ready for the tagger; may be empty. Never raises on a str."""
    text = Text(caption[:max_chars])
    clean(text)
    return text.now


def clean(text: Text) -> None:
    """Applies the rules to a caption."""
    if not text.now.isascii():
        text.now = text.now.encode(
            "utf-8", "replace"
        ).decode()  # half a surrogate pair is no text; it becomes a "?"
        text.translate(_QUOTES)
        text.normalise()
        text.translate(_QUOTES)
    if "&" in text.now:
        text.sub(_ENTITY, lambda found: html.unescape(found[0]))
        text.translate(_QUOTES)
    if "<" in text.now or "[" in text.now:
        text.sub(_MARKUP, " , ")
    if "." in text.now[:-2] or "@" in text.now or "#" in text.now or "_" in text.now or "/" in text.now:
        for pattern, replacement in _ADDRESSES:
            text.sub(pattern, replacement)
    if _DEBRIS_SIGNS.search(text.now):
        text.sub(_CREDIT, " , ")
        text.sub(_DEBRIS, " , ")
    if "-" in text.now:
        text.sub(_HYPHEN, " ")
    text.collapse()
    text.strip(_EDGES)
    _truecase(text)


def is_as_written(caption: str, cleaned: str) -> bool:
    """Whether cleaning changed the caption in nothing but case, hyphens and what is cut off its end: then every character
    stands where it stood."""
    if len(caption.rstrip(_TAIL)) != len(cleaned) or not caption.isascii():
        return False
    return caption[: len(cleaned)].replace("-", " ").lower() == cleaned.replace("-", " ").lower()


def _truecase(text: Text) -> None:
    """Lower-case a title or a shout; else only the first word, if it is capitalised in the usual way."""
    if text.now.isupper() or sum(map(str.isupper, text.now)) > 1:
        words = [word for word in _WORD.findall(text.now) if len(word) > 3]
        if len(words) >= 2 and sum(word[0].isupper() for word in words) >= 0.8 * len(words):
            text.lower()
            return
    first = _WORD.match(text.now)
    if first and (first[0][1:].islower() or len(first[0]) == 1):
        text.now = text.now[0].lower() + text.now[1:]
