"""What a text reads as: the one spelling that prompts, lexicon and benchmarks are compared in.

Unicode's NFKC and casefold, without HTML entities, characters that cannot be seen, and letters of
other scripts that stand for Latin ones. `plain` of a plain text is that text.
"""

from __future__ import annotations

import html
import re
import unicodedata

# format characters and what Unicode calls ignorable (zero-width, bidirectional, soft hyphens,
# variation selectors, tags), the stroke that only makes Arabic words longer, and the signs for
# vowels that Arabic and Hebrew may leave out
_UNSEEN = (
    "\u00ad\u034f\u061c\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\u064b-\u0652\u0670\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
)
_INVISIBLE = re.compile(f"[{_UNSEEN}]+")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)
_POWERS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"
# what NFKC leaves apart, or joins where it should not: x² is not x2, nor 2½ the same as 21/2
_SPELLED = (
    dict.fromkeys("‘’‛ʼ´′＇", "'")
    | dict.fromkeys("‐‑‒–−﹣", "-")
    | {"⁄": "/", "∕": "/", "∗": "*", "™": " "}
    | {
        fraction: f" {unicodedata.normalize('NFKC', fraction).replace('⁄', '/')} "
        for fraction in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞↉"
    }
)
_ODD = re.compile(f"[{_POWERS}]+|[{_UNSEEN}{''.join(_SPELLED)}]")

# Letters that look like Latin ones: those with a single Latin letter in Unicode's confusables.txt
# (UTS 39, version 15.1), and the small forms of capitals that have one. Greek mu is left out: µmol
# is not mmol.
_LOOK_ALIKES = {
    "Cyrillic": (
        "аАЬВсСԁеҽЕԌһНіꙇӏјЈКІӀМоОрРԛгѕЅТѵѴѡԝԜхХуүУҮвкмнт",
        "aAbBcCdeeEGhHiiijJKIIMoOpPqrsSTvVwwWxXyyYYbkmht",
    ),
    "Greek": (
        "αΑΒϲϹΕϜΗιιϳͿΚΙΜϺΝοσΟρϱΡᴦΤυνΧγΥϒΖβεζηκτχ",
        "aABcCEFHiijJKIMMNooOppPrTuvXyYYZbezhktx",
    ),
    "Cherokee": (
        "ᎪᏏᏴꮯᏟᏧᎠᎬᏀᏳᏂᎻꭵᎥᎫᏦᏞᎷᏢꮁᎡᏒꮪᏕᏚᎢꮩᏙꮃᎳᏔᎩᎽꮓᏃ",
        "AbBcCdDEGGhHiiJKLMPrRRsSSTvVwWWYYzZ",
    ),
    "Coptic": ("ⲥⲤⲎⲔⲒⳐⲘⲚⲟⲞⲣⲢⲅⲦⲬⲨ", "cCHKILMNoOpPrTXY"),
    "Armenian": ("քցհոռօՕգզՏսՍա", "fghnnoOqqSuUw"),
}
_AS_LATIN = {
    place: letter
    for letters, latin in _LOOK_ALIKES.values()
    for place, letter in str.maketrans(letters, latin).items()
}
_LOOKS_LATIN = "".join(one for one, _ in _LOOK_ALIKES.values())
_LOOK_ALIKE = re.compile(f"[{_LOOKS_LATIN}]")
_LATIN = "A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff"
_OTHERS = (
    "\u0370-\u058f\u13a0-\u13ff\u1c80-\u1c8f\u1d26-\u1d2b\u1f00-\u1fff\u2c80-\u2cff"
    "\ua640-\ua69f\uab70-\uabbf"
)
_LATIN_LETTER = re.compile(f"[{_LATIN}]")
_FOREIGN = re.compile(f"[{_OTHERS}](?<![{_LOOKS_LATIN}])")
_MIXED = re.compile(f"[{_LATIN}][{_OTHERS}]|[{_OTHERS}][{_LATIN}]")
_WORD = re.compile(f"[{_LATIN}{_OTHERS}]+")
_READS_AS_LATIN = re.compile(f"[{_LATIN}{_LOOKS_LATIN}]+")
_GREEK = re.compile("[\u0370-\u03ff]")
_FORMULA = 4  # letters: a shorter word with a Greek one is a formula (ρgh, αx)


def plain(text: str) -> str:
    """The spelling of a text that it is compared in; `plain(plain(text)) == plain(text)`."""
    while (changed := _plainer(text)) != text:
        text = changed
    return text


def visible(text: str) -> str:
    """A text in NFKC without characters that cannot be seen, in its own case and letters."""
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))


def _plainer(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _in_latin(_ODD.sub(_spelled, text)))
    return text.casefold().replace("i\u0307", "i")  # a Turkish capital


def _spelled(odd: re.Match[str]) -> str:
    found = odd[0]
    return f"^{found}" if found[0] in _POWERS else _SPELLED.get(found, "")


def _in_latin(text: str) -> str:
    """A text with look-alikes as Latin letters, in words that are Latin but for them.

    A word without a Latin letter is one only where the whole text is Latin but for look-alikes:
    elsewhere it is Greek or Russian.
    """
    if not _LOOK_ALIKE.search(text):
        return text
    whole = _LATIN_LETTER.search(text) and not _FOREIGN.search(text)
    if not whole and not _MIXED.search(text):
        return text

    def read(word: re.Match[str]) -> str:
        said = word[0]
        known = _READS_AS_LATIN.fullmatch(said) and (whole or _LATIN_LETTER.search(said))
        formula = len(said) < _FORMULA and _GREEK.search(said)
        return said.translate(_AS_LATIN) if known and not formula else said

    return _WORD.sub(read, text)
