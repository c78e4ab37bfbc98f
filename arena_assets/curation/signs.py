"""What carries meaning beside words: numbers, operators, emoji; and what near-duplicates share.

`signs` tells C from C++ and 3 > 5 from 3 < 5, and leaves out commas, quotes, hyphens, Markdown and
what else can be added to a text without changing what it asks. `guard` is what a near-duplicate has
in common with the prompt that it repeats: signs, number words, negations, names in code.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex

from arena_assets.curation.plain import plain, visible

# at the start of a line these mark a list, a quotation or a heading; many of one are a rule
_MARKUP = regex.compile(r"(?m)^[ \t]*(?:[-*+>•‣▪●◦■□▸►·—]|\#+)(?=[ \t])|([-=*_~+#.])\1{3,}")

_ENDS = r"(?:\d|[)\]}]|(?<![\w'])[a-z])"  # a number, a bracket or a variable before an operator
_STARTS = r"(?:\.?\d|[(\[{√]|[a-z](?![\w']))"  # and one after it
_OPERATOR = rf"(?:[+*/^=<>%|~√]|-[ \t]*{_STARTS})"
_TOKENS = regex.compile(
    rf"""
      \d{{1,3}}(?:,\d{{3}})+(?![\d,])                                # 1,000 is 1000
    | \w+(?:['.]\w+)*(?:\((?!e?s\)))?                                # words, 1.5, a call up to (
    | (?=[^\w\s])(?:
      (?<=\w)\#+(?!\w) | \#(?=\d)                                    # C#, #1
    | (?<![\w.)\]'"!?])\.(?=[a-z\d])                                 # .NET, .5
    | (?<={_ENDS}[ \t]*)[-/](?=[ \t]*{_STARTS})                      # 12-7, 12 / x
    | (?<![\w)\]}}'".!?-])-(?=\.?\d)                                 # -5
    | (?<=[ \t(\[{{=<>+*/^,|&])--?(?=[a-z(])                         # (-x), ls -l
    | (?<=[\w)\]][ \t]+)/+(?=[ \t]+[\w(])                            # width / height
    | (?<=[\w)\]}}])\*+(?=[\w(\[{{.+-])                              # a*b; not *a* b
    | (?<=[\w)\]}}][ \t]+)\*+(?=[ \t]+[\w(\[{{.+-])                  # a * b
    | (?<=(?<![\w*'])(?:[a-z]|\d+))\*(?![\w*])                       # A*
    | (?<=(?<![\w*'.-])[a-z])--?(?![\w-])                             # i--, A-
    | !(?==) | (?<![\w!?.)\]'"])!(?=[a-z(])                          # !=, !x
    | (?<=(?<![\w.])(?:[kmn]|\d+))!(?![\w!]) | (?<=\))!(?=[ \t]*{_OPERATOR})  # 5!, n!
    | (?<={_OPERATOR}[ \t]*)[(\[{{] | [)\]}}](?=[ \t]*{_OPERATOR})   # 2*(3+4)
    | (?<=(?<!\w)[a-z]'{{0,2}})'(?=\()                               # f'(x)
    | (?<!\S)[:;]-?[()](?!\w)                                        # :)
    | [\p{{Sm}}\p{{Sc}}\p{{So}}\p{{Sk}}%&@\\--[`©®\uFFFD]]           # + < = | $ emoji
    )
    """,
    regex.VERBOSE | regex.VERSION1,
)
_NUMBERS = regex.compile(r"\d+(?:\.\d+)+[^\W_]*|[^\W_]*\d[^\W_]*")  # 1.5, 3rd, x1


def signs(text: str) -> list[str]:
    """The signs of a plain text in their order, numbers without thousands separators."""
    return list(_signs(_TOKENS.findall(_MARKUP.sub("", text))))


def _signs(tokens: list[str]) -> Iterator[str]:
    for token in tokens:
        if token.isalpha():
            continue
        if token[0].isalnum() or token[0] == "_":
            yield from _NUMBERS.findall(token.replace(",", ""))
        else:
            yield token


def _words(text: str) -> frozenset[str]:
    return frozenset(plain(word) for word in text.split())


_NUMBER_WORDS = _words(
    """
    zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
    hundred thousand million billion half twice double triple quarter dozen first second third
    zwei drei vier fünf sechs sieben acht neun zehn elf zwölf zwanzig hundert tausend
    deux trois quatre cinq sept huit neuf dix onze douze vingt trente cent mille
    dos tres cuatro cinco seis siete ocho nueve diez once doce veinte treinta cien mil
    ii iii iv vi vii viii ix xi xii xiii xiv
    """
)
_NEGATIONS = _words(
    """
    not no never without none nor neither cannot nothing nobody except
    dont doesnt didnt isnt arent wasnt werent wont cant couldnt shouldnt wouldnt
    nicht kein keine keinen keinem keiner keines nie niemals ohne weder
    ne pas jamais sans aucun aucune
    nunca jamás sin ningún ninguno ninguna ni tampoco não sem nenhum nenhuma nem
    non mai senza nessun nessuno nessuna né niet geen nooit zonder
    inte ikke ej utan uden uten aldrig aldri nie bez nigdy
    не нет никогда без ни немає δεν μην όχι χωρίς değil
    لا لم لن ليس بدون غير نیست לא אין בלי אל नहीं मत बिना không chưa đừng tidak bukan jangan tanpa
    """
)
_CODE_WORDS = _words("def class func fn function struct enum interface const var import")
# in words of scripts that do not space them, numerals and negations stand inside
_INSIDE = regex.compile(
    "[一二三四五六七八九十百千万萬億亿兆两兩零〇半]|"
    "[不没沒無无非未非别別勿莫].?|ない|ません|なかった|ずに|않|없|아니|못|마세요|말고|ไม่|ห้าม|មិន|ບໍ່"
)
_CODE = regex.compile(r"(?s)```(.+?)```|`([^`\n]+)`")
_CAMEL = regex.compile(r"\p{Ll}\p{Lu}")


def guard(text: str) -> str:
    """What another prompt has to share with this one to be its near-duplicate, as one string."""
    said = plain(text)
    tokens = _TOKENS.findall(_MARKUP.sub("", said))
    code = ["".join("".join(found).split()) for found in _CODE.findall(said)] if "`" in said else []
    camel = [word.casefold() for word in _cased(visible(text)) if _CAMEL.search(word)]
    return "\n".join(map(" ".join, (_signs(tokens), _told(tokens), code, camel)))


def _cased(text: str) -> list[str]:
    """The words of a text that has names in camel case."""
    return regex.findall(r"\w+", text) if _CAMEL.search(text) else []


def _told(tokens: list[str]) -> Iterator[str]:
    """The words of a text that another word in their place would make another request."""
    before = ""
    for token, after in zip(tokens, [*tokens[1:], ""], strict=True):
        if not token[0].isalnum() and token[0] != "_":
            pass
        elif token in _NEGATIONS or token[-3:] == "n't" or token[:2] == "n'":
            yield f"not {after}"
        elif token in _NUMBER_WORDS or _is_name(token, before, after):
            yield token
        elif not token.isascii():
            yield from _INSIDE.findall(token)
        before = token


def _is_name(token: str, before: str, after: str) -> bool:
    """Whether a word is one of code or mathematics: foo_bar, open(, os.path, x = y, solve for x."""
    if len(token) == 1:
        return token.isalpha() and token not in "ai"
    if token.isalpha():
        return before in _CODE_WORDS or before[-1:] in _BINDS or after[:1] in _BINDS
    return "_" in token.strip("_(") or "(" in token or "." in token[2:-2]


_BINDS = frozenset("=+*<>^")
