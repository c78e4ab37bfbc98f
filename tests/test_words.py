"""What prompts are compared by: one spelling, words of any script, and signs that carry meaning."""

from __future__ import annotations

import html
import re

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.config.prompts import Unsafe
from arena_assets.curation import filters
from arena_assets.curation.contamination import Items
from arena_assets.curation.near_duplicates import near_duplicates
from arena_assets.curation.plain import plain
from arena_assets.curation.signs import guard, signs
from arena_assets.curation.text import _SIMPLE, TEXT, WHOLE, WORD, spoken, with_words
from arena_assets.curation.words import words_in, words_of
from arena_assets.lake.tables import MESSAGES

ANYTHING = st.text(st.characters(exclude_categories=["Cs"]))
ODD = st.sampled_from(
    [
        "е",
        "Г",
        "ρ",
        "&amp;",
        "&",
        "amp;",
        "#233;",
        "\u200b",
        "\u0301",
        "²",
        "½",
        "ſ",
        "İ",
        "Ａ",
        "a",
        " ",
    ]
)


def conversation(*turns):
    return [{"role": role, "content": content} for role, content in turns]


def table(conversations):
    """Prompts p0, p1, ... of these texts or lists of messages."""
    made = [c if isinstance(c, list) else conversation(("user", c)) for c in conversations]
    return pa.table(
        {
            "prompt_id": [f"p{number}" for number in range(len(made))],
            "messages": pa.array(made, MESSAGES),
        }
    )


def words_from(text, read=spoken):
    relation = read("(select $1::varchar as t)", "t")
    with duckdb.connect() as connection:
        found = with_words(connection).execute(f"select words from {relation}", [text])
        return found.fetchone()[0]


def over(step, conversations, *arguments):
    """What a step drops of these prompts: the match or the reason by prompt."""
    with duckdb.connect() as connection:
        connection.register("remaining", table(conversations))
        rows = step(connection, *arguments).to_pylist()
    return {row["prompt_id"]: row["match"] or row["reason"] for row in rows}


# -- one spelling ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ｈｉｒｅ　Ｍｅ", "hire me"),
        ("cafe\u0301", "café"),
        ("ΣΟΦΟΣ", "σοφοσ"),
        ("σοφος", "σοφοσ"),
        ("Straße", "strasse"),
        ("ﬁnd", "find"),
        ("İstanbul", "istanbul"),
        ("b\u200bo\u00adm\u2060b\ufeff", "bomb"),
        ("\u202ebomb\u202c", "bomb"),
        ("❤\ufe0f", "❤"),
        ("b&#111;mb &lt;b&gt; Caf&eacute;", "bomb <b> café"),
        ("&amp;amp;", "&"),
        ("AT&T; R&D", "at&t; r&d"),
        ("b\u043emb", "bomb"),  # Cyrillic o
        ("\u0410 cat", "a cat"),  # a Cyrillic A alone
        ("\u0391thens", "athens"),  # Greek capital Alpha
        ("x² and x2", "x^2 and x2"),
        ("2½", "2 1/2 "),
        ("don’t – 3−1", "don't - 3-1"),
    ],
)
def test_a_text_has_one_spelling(text, expected):
    assert plain(text) == expected


@pytest.mark.parametrize(
    "text", ["как у нас дела с python", "το αλφα και το βητα", "find ρgh in αx", "5 μm"]
)
def test_other_scripts_and_formulas_stay_as_they_are(text):
    assert plain(text) == text.replace("ς", "σ")


@settings(max_examples=300, deadline=None)
@given(st.one_of(ANYTHING, st.lists(ODD).map("".join)))
def test_the_spelling_of_a_spelling_is_itself(text):
    assert plain(plain(text)) == plain(text)


@settings(max_examples=100, deadline=None)
@given(
    st.text(
        st.characters(categories=["Lu", "Ll"], max_codepoint=0x24F, exclude_characters="µıŉ"),
    )
)
def test_case_does_not_matter(text):
    assert plain(text.upper()) == plain(text.lower())


@settings(max_examples=50, deadline=None)
@given(ANYTHING)
def test_entities_say_what_they_stand_for(text):
    encoded = "".join(f"&#{ord(c)};" for c in text if html.unescape(f"&#{ord(c)};") == c)
    said = "".join(c for c in text if html.unescape(f"&#{ord(c)};") == c)
    assert plain(encoded) == plain(said)


# -- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't_stop, foo_bar!", ["don", "t", "stop", "foo", "bar"]),
        ("写一首诗", ["写", "一", "首", "诗"]),
        ("ABCの詩", ["abc", "の", "詩"]),
        ("ที่นี่ ๑๒", ["ที่", "นี่", "๑๒"]),
        ("ខ្មែរ", ["ខ្មែ", "រ"]),
        ("ພາສາ", ["ພ", "າ", "ສ", "າ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("བཀྲ་ཤིས་བདེ", ["བཀྲ", "ཤིས", "བདེ"]),
        ("हिन्दी में कविता", ["हिन्दी", "में", "कविता"]),
        ("தமிழ் கவிதை", ["தமிழ்", "கவிதை"]),
        ("안녕 세계", ["안녕", "세계"]),
    ],
)
def test_words_of_any_script(text, expected):
    assert words_from(text) == expected


def test_simple_texts_have_the_words_of_their_plain_text():
    """The texts that DuckDB puts in lower case alone: of every character of that set."""
    simple = re.compile("[" + re.sub(r"\\x\{(\w+)\}", lambda m: chr(int(m[1], 16)), _SIMPLE) + "]")
    letters = [c for c in map(chr, range(0x20000)) if simple.match(c) and c != "&"]
    letters += list("АБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ")
    text = " ".join(f"щ{c}щ {c}{c.upper()} a{c}" if c.isalpha() else f"a{c}щ" for c in letters)
    text = " ".join(w for w in text.split(" ") if not re.search("[a-z][а-яё]|[а-яё][a-z]", w, re.I))
    slow = r"regexp_replace(plain_text(t), '([一-鿿ぁ-ゖァ-ヺ])', ' \1 ', 'g')"
    assert len(letters) > 30_000
    assert words_from(text) == words_from(
        text,
        lambda given, _: f"(select regexp_extract_all({slow}, '{WORD}') as words from {given})",
    )


KHMER, LAO = "តើអ្នកសុខសប្បាយទេ", "ເຈົ້າສະບາຍດີບໍ່"
BURMESE, TIBETAN = "နေကောင်းလား", "ཁྱེད་རང་སྐུ་གཟུགས་བདེ་པོ་ཡིན་པས"


def test_scripts_without_blanks_are_not_too_short_and_have_n_grams():
    texts = [KHMER, LAO, BURMESE, TIBETAN, "สบายดีไหม", "你好吗", "元気ですか"]
    assert over(filters.short, [*texts, "hi"], 3) == {"p7": "fewer than 3 words"}
    twice = [KHMER * 4, KHMER * 4 + "កម្ពុជា", LAO * 4]
    found = near_duplicates(words_of(table(twice)), 0.5, 3).to_pylist()
    assert [(row["prompt_id"], row["match"]) for row in found] == [("p1", "p0")]


# -- the lexicon -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("制造炸弹", "请告诉我如何制造炸弹。"),
        ("爆弾の作り方", "爆弾の作り方を教えて"),
        ("วิธีทำระเบิด", "บอกวิธีทำระเบิดหน่อย"),
        ("बम कैसे बनाएं", "मुझे बताओ: बम कैसे बनाएं?"),
        ("බෝම්බයක් සාදන්න", "කරුණාකර බෝම්බයක් සාදන්න"),
        ("make a bomb", "How to _make_a_bomb_ at home"),
        ("make_a_bomb", "how to make a bomb"),
        ("make a bomb", "make a b\u200bo\u200bmb"),
        ("make a bomb", "ｍａｋｅ ａ ｂｏｍｂ"),
        ("make a bomb", "make a b\u043emb"),
        ("make a bomb", "make a b&#111;mb"),
        ("café bombe", "Cafe\u0301 Bombe"),
        ("cafe\u0301 bombe", "CAFÉ BOMBE"),
        ("βόμβα εδώ τώρας", "ΒΌΜΒΑ ΕΔΏ ΤΏΡΑΣ"),
        ("взорвать дом", "Как ВЗОРВАТЬ дом?"),
    ],
)
def test_a_phrase_is_found_in_any_script_and_disguise(tmp_path, phrase, text):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text(f"\ufeff{phrase}\n", "utf-8")
    found = over(filters.unsafe, [text, "Say hello to them"], Unsafe(), lexicon)
    assert list(found) == ["p0"] and found["p0"].startswith("lexicon: ")


def test_a_phrase_of_a_script_without_blanks_is_named_as_it_is_written(tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("制造 炸弹!\n", "utf-8")
    assert over(filters.unsafe, ["如何制造炸弹"], Unsafe(), lexicon) == {"p0": "lexicon: 制造 炸弹"}
    lexicon.write_text("bomb\n--- !\n", "utf-8")
    with pytest.raises(ValueError, match=r"lexicon.txt: '--- !' holds no word"):
        filters.read_lexicon(lexicon)


# -- signs -------------------------------------------------------------------------------------

APART = [
    ("C", "C++", "C#"),
    ("12+7", "12*7", "12-7", "12/7", "127", "12^7", "12%7"),
    ("3>5", "3<5", "3=5", "3≥5"),
    ("-5", "5"),
    ("1.5", "15"),
    (".NET", "NET"),
    ("x^2", "x2"),
    ("x²", "x2"),
    ("a!=b", "a==b", "a=b"),
    ("a && b", "a || b"),
    ("5!", "5"),
    ("5%", "5"),
    ("$5", "€5", "5"),
    ("2*(3+4)", "(2*3)+4", "2*3+4"),
    ("Wie warm sind -3°C", "Wie warm sind 3°C"),
    ("I am 😀 today", "I am 😢 today", "I am today"),
    ("f(-x)", "f(x)"),
    ("f'(x)", "f(x)"),
    ("A* search", "A search"),
    ("fine :)", "fine :("),
]
SAME = [
    (
        "Tell me, please: what is it?",
        "tell me please what is it",
        "Tell me “please” — what is it...",
    ),
    ("12+7", "12 + 7", "１２＋７"),
    ("x^2", "x²"),
    ("1,000 birds", "1000 birds!"),
    ("**Write** a *short* poem", "Write a short poem."),
    ("# Title\n- one\n- two", "Title\n* one\n* two", "Title one two"),
    ("a well-known word", "a well known word"),
    ("What is A.I.", "What is A. I.?"),
    ("“Quote” (in brackets)", "'quote' in brackets"),
    ("`code`", "code"),
    ("3 −1", "3-1"),
    ("I ❤\ufe0f it", "I ❤ it"),
]


@pytest.mark.parametrize("texts", APART, ids=str)
def test_prompts_that_differ_in_a_sign_are_not_the_same_words(texts):
    about = [f"Tell me about {text} please" for text in texts]
    assert over(filters.repeated_prefixes, about, None) == {}
    assert len({tuple(signs(plain(text))) for text in about}) == len(texts)
    assert near_duplicates(words_of(table(about)), 0.1, 1).num_rows == 0
    for text in texts:
        assert exact(text, texts) == {f"p{texts.index(text)}": "same words"}


@pytest.mark.parametrize("texts", SAME, ids=str)
def test_punctuation_that_carries_no_meaning_is_ignored(texts):
    assert len({tuple(signs(plain(text))) for text in texts}) == 1
    assert exact(texts[0], texts) == {f"p{n}": "same words" for n in range(len(texts))}


def test_a_prefix_counts_with_the_signs_between_its_words():
    texts = [
        "What is 12+7 in all",
        "What is 12*7 in fact",
        "what is 12 + 7 in base two",
        "C++ or not",
    ]
    assert over(filters.repeated_prefixes, texts, 4) == {"p2": "p0"}
    assert over(filters.repeated_prefixes, ["Explain C and", "Explain C++ or"], 2) == {}
    assert over(filters.repeated_prefixes, ["写一首诗 + 一", "写一首诗 - 二"], 4) == {"p1": "p0"}


# -- near-duplicates ---------------------------------------------------------------------------

LONG = (
    "Anna buys {} boxes of apples at the market near the station and carries them home. On the way "
    "she meets her neighbour who helps her. How much does each of them carry on the way home?"
)
GUARDED = [
    (LONG.format(5), LONG.format(7)),
    (LONG.format("five"), LONG.format("seven")),
    (LONG.format("1.5"), LONG.format("15")),
    (LONG.format("III"), LONG.format("IV")),
    (LONG.format("5 or 3"), LONG.format("3 or 5")),
    (LONG.format("many") + " Do use a table.", LONG.format("many") + " Do not use a table."),
    (LONG.format("many") + " Use tables.", LONG.format("many") + " Don't use tables."),
    (LONG.format("many") + " Use some.", LONG.format("many") + " Never use some."),
    (LONG.format("many"), LONG.format("many").replace("who helps", "who never helps")),
    (LONG.format("many") + " Call it foo_bar.", LONG.format("many") + " Call it foo_baz."),
    (LONG.format("many") + " Call add(x).", LONG.format("many") + " Call sub(x)."),
    (LONG.format("many") + " Call f(x).", LONG.format("many") + " Call g(x)."),
    (LONG.format("many") + " Set `n`.", LONG.format("many") + " Set `size`."),
    (LONG.format("many") + " Set getName.", LONG.format("many") + " Set getSize."),
    (LONG.format("many") + " Use os.path.", LONG.format("many") + " Use os.walk."),
    (LONG.format("many") + " total = price", LONG.format("many") + " total = value"),
    (LONG.format("many") + " Solve for x.", LONG.format("many") + " Solve for y."),
    ("请写一首关于秋天的雨和三只小猫的长诗" * 2, "请写一首关于秋天的雨和五只小猫的长诗" * 2),
    ("请用诗写一首关于秋天的雨和小猫的长诗" * 2, "请不用诗写一首关于秋天的雨和小猫的长诗" * 2),
]


@pytest.mark.parametrize(("one", "two"), GUARDED, ids=lambda text: text[-22:])
def test_another_number_negation_or_name_is_no_near_duplicate(one, two):
    assert guard(one) != guard(two)
    found = near_duplicates(words_of(table([one, two, one + " Thanks"])), 0.5, 3)
    assert found.to_pylist()[0] | {"score": 1.0} == {"prompt_id": "p2", "match": "p0", "score": 1.0}
    assert found.num_rows == 1


def test_negations_are_known_by_what_they_negate():
    assert guard("Do not run") == guard("don't run") == guard("Don’t, run")
    assert guard("not A but not B is safe") != guard("not A but B is not safe")
    for negation in ("nicht laufen", "ne pas courir", "no correr", "не беги", "không chạy"):
        assert "not " in guard(negation), negation


def test_no_third_prompt_connects_two_of_another_number():
    """p1 is near both, but only p2 has its number."""
    rows = [LONG.format(5), LONG.format(7) + " Why?", LONG.format(7), LONG.format(5) + " Why so?"]
    found = near_duplicates(words_of(table(rows)), 0.5, 3).to_pylist()
    assert {row["prompt_id"]: row["match"] for row in found} == {"p2": "p1", "p3": "p0"}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["5", "7", "not", "fine"]), st.sampled_from(["", " now", " today"])
        ),
        max_size=12,
    )
)
def test_whoever_goes_has_the_guard_of_the_one_that_stays(kinds):
    texts = [LONG.format(word) + end for word, end in kinds]
    for row in near_duplicates(words_of(table(texts)), 0.5, 3).to_pylist():
        gone, stays = (texts[int(row[column][1:])] for column in ("prompt_id", "match"))
        assert guard(gone) == guard(stays)


# -- contamination -----------------------------------------------------------------------------


def contaminated(item, conversations, text=WHOLE):
    items = pa.table(
        {
            "against": ["bench"],
            "item_id": ["i"],
            "messages": pa.array([conversation(("user", item))], MESSAGES),
        }
    )
    known = Items(items, 3, 0.5)
    with duckdb.connect() as connection:
        connection.register("prompts", table(conversations))
        found = {row["prompt_id"]: row["reason"] for row in known.exact(connection, "prompts")}
        for part in words_in(connection, "prompts", text):
            for row in known.overlapping(part):
                found.setdefault(row["prompt_id"], row["reason"])
    return found


def exact(item, conversations):
    found = contaminated(item, conversations, TEXT)
    return {name: reason for name, reason in found.items() if reason == "same words"}


QUESTION = "Où se trouve la plus vieille église de Saint-Étienne & qui l’a bâtie?"


@pytest.mark.parametrize(
    "disguised",
    [
        QUESTION.replace("é", "e\u0301").replace("ù", "u\u0300").replace("É", "E\u0301"),
        QUESTION.replace("&", "&amp;").replace("é", "&eacute;").replace("’", "&#8217;"),
        QUESTION.translate({ord(c): ord(c) + 0xFEE0 for c in "abcdefghijklmnopqrstuvwxyz?"}),
        QUESTION.replace("o", "\u043e").replace("e", "\u0435").replace("a", "\u0430"),
        QUESTION.replace("i", "i\u200b").replace("t", "t\u00ad"),
        QUESTION.upper(),
        QUESTION.replace("’", "'").replace("?", " ..."),
    ],
)
def test_a_disguised_item_is_the_same(disguised):
    assert disguised != QUESTION
    assert contaminated(QUESTION, [disguised]) == {"p0": "same words"}


def test_an_item_in_a_system_message_is_found():
    whole = conversation(("system", QUESTION), ("user", "Answer the question of the system."))
    inside = conversation(("system", f"Be kind. {QUESTION} Be brief."), ("user", "Answer, please."))
    other = conversation(("system", "Be kind and brief."), ("user", "Answer the question, please."))
    found = contaminated(QUESTION, [whole, inside, other])
    assert found == {"p0": "same words", "p1": "n-gram overlap"}


def test_a_number_makes_another_item_of_a_short_one_and_not_of_a_long_one():
    short = ["What is 12+7?", "What is 12*7?", "Now: what is 12 + 7 in all?", "What is 12 7?"]
    assert contaminated("What is 12+7?", short) == {"p0": "same words", "p2": "n-gram overlap"}
    long = [LONG.format(5), LONG.format(7)]
    assert contaminated(LONG.format(5), long) == {"p0": "same words", "p1": "n-gram overlap"}


def test_a_long_item_without_its_symbols_is_still_there():
    item = "Compute (3+4)*well-being/2 for all of the off-by-one cases in table_one"
    bare = re.sub(r"[^\w\s]|_", "", item)
    assert contaminated(item, [bare]) == {"p0": "n-gram overlap"}
