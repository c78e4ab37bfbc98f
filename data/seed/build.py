"""Builds the seed prompts and the recorded author's answers from the banks beside this file.

    python data/seed/build.py [FOLDER]

writes prompts.jsonl and responses.jsonl, byte for byte the same every time. Every prompt but plain
chat states constraints that can be checked by machine; the recorded answer meets all of them.
Difficulty (0-10) is that of the family (DIFFICULTY), one more for every item that is asked for and
one more where the prompt has earlier turns.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SEED = 20240710
TOPICS_A_FAMILY = 66

LEADS = (
    "Tell me about {name}.",
    "Describe {name}.",
    "Explain {name} to a child.",
    "Say something about {name}.",
    "I want to know about {name}.",
    "Share a fact about {name}.",
    "Introduce {name} to a beginner.",
    "Teach me about {name}.",
    "My daughter asks about {name}.",
    "Write about {name} for a school paper.",
    "What should everybody know about {name}?",
    "Help me understand {name}.",
)
ENDINGS = (
    "That is all.",
    "Have a nice day.",
    "Thanks for asking.",
    "Now you know.",
    "End of story.",
    "Ask me more.",
)
OPENINGS = ("In short,", "Good question:", "Well,", "As we know,", "To be brief,", "Here it is:")
KEY_PAIRS = (("topic", "fact"), ("name", "kind"), ("subject", "summary"), ("word", "meaning"))
# by how often a small instruction-tuned model meets all constraints of the family: easy ones first
DIFFICULTY = {
    "chat": 0,
    "yesno": 2,
    "lowercase": 3,
    "opening": 3,
    "uppercase": 4,
    "ending": 4,
    "numbered": 2,
    "bullets": 3,
    "list": 4,
    "quoted": 5,
    "title": 6,
    "parts": 6,
    "json": 6,
    "keyword": 6,
    "sum": 7,
}
PEOPLE = ("Tom", "Anna", "Omar", "Lena", "Ravi", "Mia", "Chen", "Sara", "Ben", "Nora")
GOODS = (
    "apples",
    "books",
    "coins",
    "stamps",
    "pens",
    "shells",
    "cards",
    "eggs",
    "marbles",
    "tickets",
)


@dataclass(frozen=True)
class Topic:
    """Something to talk about: its name, its kind, a sentence and four short facts."""

    name: str
    kind: str
    sentence: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Seed:
    """One prompt with its constraints and the answer that meets them."""

    instruction: str
    answer: str
    constraints: list[dict[str, Any]]
    computed: str | None = None
    items: int = 0


def bank(name: str) -> list[list[str]]:
    """The rows of a bank: fields between bars, comments left out."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [[part.strip() for part in line.split("|")] for line in lines if line[0] != "#"]


def topics() -> list[Topic]:
    return [
        Topic(name, kind, sentence, tuple(fact.strip() for fact in facts.split(";")))
        for name, kind, sentence, facts in bank("topics.txt")
    ]


def word_count(maximum: int, minimum: int = 1) -> dict[str, Any]:
    return {"type": "word_count", "minimum": minimum, "maximum": maximum}


def lowercase(topic: Topic, choose: random.Random) -> Seed:
    how = choose.choice(
        (
            "Write one sentence and use no capital letters at all.",
            "Answer in one sentence that is all lowercase.",
            "One sentence please, in small letters only.",
            "Use lowercase letters only and stop after one sentence.",
            "Your answer is a single sentence without any capital letter.",
        )
    )
    constraints = [{"type": "all_lowercase"}, {"type": "sentence_count", "count": 1}]
    return Seed(how, topic.sentence.lower(), constraints)


def uppercase(topic: Topic, choose: random.Random) -> Seed:
    limit = choose.choice((15, 18, 20))
    how = choose.choice(
        (
            "Write in capital letters only, with {n} words at most.",
            "Use all caps and no more than {n} words.",
            "Every letter must be a capital letter. Stay under {m} words.",
            "Shout it: capital letters only, up to {n} words.",
            "Answer in uppercase in at most {n} words.",
        )
    ).format(n=limit, m=limit + 1)
    return Seed(how, topic.sentence.upper(), [{"type": "all_uppercase"}, word_count(limit)])


def bullets(topic: Topic, choose: random.Random) -> Seed:
    count = choose.choice((2, 3, 4))
    how = choose.choice(
        (
            "Give exactly {n} bullet points, {w} words at most in all.",
            "Answer with {n} bullet points that start with a dash, in no more than {w} words.",
            "Make a list of exactly {n} bullets and use at most {w} words.",
            "I need {n} short bullet points and nothing else, up to {w} words.",
            "Use {n} bullets, no more and no less, and at most {w} words.",
        )
    ).format(n=count, w=count * 7)
    answer = "\n".join(f"- {fact}" for fact in choose.sample(topic.facts, count))
    constraints = [{"type": "bullet_count", "count": count}, word_count(count * 7)]
    return Seed(how, answer, constraints, items=count)


def numbered(topic: Topic, choose: random.Random) -> Seed:
    count = choose.choice((2, 3, 4))
    how = choose.choice(
        (
            "Write a numbered list of exactly {n} facts without commas.",
            "Number your points from 1 to {n} and use no commas.",
            "Give {n} numbered facts. Do not use any comma.",
            "List {n} things, one a line with its number, and leave commas out.",
            "Make a numbered list with {n} lines and not a single comma.",
        )
    ).format(n=count)
    facts = choose.sample(topic.facts, count)
    answer = "\n".join(f"{n}. {fact.capitalize()}" for n, fact in enumerate(facts, 1))
    constraints = [{"type": "numbered_list_count", "count": count}, {"type": "no_commas"}]
    return Seed(how, answer, constraints, items=count)


def ending(topic: Topic, choose: random.Random) -> Seed:
    phrase, limit = choose.choice(ENDINGS), choose.choice((20, 25))
    how = choose.choice(
        (
            "Use at most {n} words and end with the words: {p}",
            "Finish your answer with exactly this: {p} Use no more than {n} words.",
            "The last words of your answer must be: {p} Keep it under {m} words.",
            "In {n} words or fewer, and close with: {p}",
            "Keep it to {n} words. Your final sentence must be: {p}",
        )
    ).format(n=limit, m=limit + 1, p=phrase)
    answer = f"{topic.sentence} {phrase}"
    return Seed(how, answer, [{"type": "ends_with", "phrase": phrase}, word_count(limit)])


def opening(topic: Topic, choose: random.Random) -> Seed:
    phrase = choose.choice(OPENINGS)
    how = choose.choice(
        (
            "Begin with the words {p} and write only one sentence.",
            "Start your answer with {p} and stop after one sentence.",
            "Your first words must be {p} One sentence only.",
            "Open with {p} in a single sentence.",
            "Answer in one sentence which begins with {p}",
        )
    ).format(p=f'"{phrase}"')
    # the sentence goes on in small letters after the opening words
    answer = f"{phrase} {topic.sentence[0].lower()}{topic.sentence[1:]}"
    constraints = [
        {"type": "starts_with", "phrase": phrase},
        {"type": "sentence_count", "count": 1},
    ]
    return Seed(how, answer, constraints)


def quoted(topic: Topic, choose: random.Random) -> Seed:
    limit = choose.choice((15, 18, 20))
    how = choose.choice(
        (
            "Put your whole answer in double quotation marks and use at most {n} words.",
            "Wrap the entire answer in double quotes. No more than {n} words.",
            "Your reply starts and ends with a double quotation mark and has up to {n} words.",
            "Answer inside double quotes, in {n} words or fewer.",
            "Place double quotation marks around everything you write, {n} words at most.",
        )
    ).format(n=limit)
    answer = f'"{topic.sentence}"'
    return Seed(how, answer, [{"type": "wrapped_in_quotes"}, word_count(limit)])


def as_json(topic: Topic, choose: random.Random) -> Seed:
    first, second = choose.choice(KEY_PAIRS)
    how = choose.choice(
        (
            'Reply with a JSON object that has the keys "{a}" and "{b}" and nothing else.',
            'Answer in JSON with exactly two keys: "{a}" and "{b}".',
            'Give only a JSON object. Its keys are "{a}" and "{b}".',
            'Format the answer as JSON, with "{a}" and "{b}" as the only keys.',
            'Output JSON like {{"{a}": ..., "{b}": ...}} and no other text.',
        )
    ).format(a=first, b=second)
    value = topic.kind if second == "kind" else topic.sentence
    answer = json.dumps({first: topic.name, second: value})
    constraints = [
        {"type": "json_object", "keys": [first, second]},
        {"type": "contains_words", "words": [topic.name]},
    ]
    return Seed(how, answer, constraints)


def titled(topic: Topic, choose: random.Random) -> Seed:
    limit = choose.choice((20, 25))
    how = choose.choice(
        (
            "First give a title in double angle brackets such as <<Title>>, then one line of text, at most {n} words.",
            "Put a title like <<This>> on the first line and stay within {n} words.",
            "Start with a <<title>> on its own line. Use no more than {n} words in all.",
            "The first line is a title wrapped in << and >>. Write {n} words at most.",
            "Give it a <<heading>> in double angle brackets on line one, up to {n} words in total.",
        )
    ).format(n=limit)
    answer = f"<<{topic.name.title()}>>\n{topic.sentence}"
    return Seed(how, answer, [{"type": "bracketed_title"}, word_count(limit)])


def parts(topic: Topic, choose: random.Random) -> Seed:
    how = choose.choice(
        (
            "Write two parts with *** between them, {n} words at most.",
            "Split your answer in two with a line of *** and use up to {n} words.",
            "Give two short paragraphs. Put *** between them and keep to {n} words.",
            "Your answer has exactly two parts, separated by ***, in no more than {n} words.",
            "Two paragraphs, a line with *** in the middle, at most {n} words.",
        )
    ).format(n=25)
    fact = choose.choice(topic.facts)
    answer = f"{topic.sentence}\n***\nOne more fact: {fact}."
    return Seed(how, answer, [{"type": "paragraph_count", "count": 2}, word_count(25)])


def keyword(topic: Topic, choose: random.Random) -> Seed:
    words = [w.strip(".") for w in topic.sentence.split() if len(w.strip(".")) > 3]
    wanted = choose.sample([w for w in words if w.lower() not in topic.name.lower()], 2)
    how = choose.choice(
        (
            'Use the words "{a}" and "{b}" in one lowercase sentence.',
            'Write a single sentence with "{a}" and "{b}" in it, without capital letters.',
            'One sentence in small letters that contains both "{a}" and "{b}".',
            'Your sentence must mention "{a}" and "{b}" and be all lowercase.',
            'Include "{a}" and "{b}". One sentence, no capital letters.',
        )
    ).format(a=wanted[0], b=wanted[1])
    constraints = [
        {"type": "contains_words", "words": wanted},
        {"type": "all_lowercase"},
        {"type": "sentence_count", "count": 1},
    ]
    return Seed(how, topic.sentence.lower(), constraints)


TOPIC_FAMILIES: dict[str, Callable[[Topic, random.Random], Seed]] = {
    "lowercase": lowercase,
    "uppercase": uppercase,
    "bullets": bullets,
    "numbered": numbered,
    "ending": ending,
    "opening": opening,
    "quoted": quoted,
    "json": as_json,
    "title": titled,
    "parts": parts,
    "keyword": keyword,
}


def comma_lists(choose: random.Random) -> Iterator[Seed]:
    for kind, members in bank("lists.txt"):
        things = [member.strip() for member in members.split(";")]
        for count in choose.sample((2, 3, 4, 5), 2):
            how = choose.choice(
                (
                    "Name {n} {kind} on one line with commas between them, in lowercase.",
                    "List exactly {n} {kind} in small letters, separated by commas, nothing else.",
                    "Which {n} {kind} come to mind? One line, lowercase, commas between them.",
                    "Write {n} {kind} as a comma separated line without capital letters.",
                    "I need {n} {kind}. Lowercase only, with commas, no other text.",
                    "Give me {n} examples of {kind} in one lowercase line with commas.",
                )
            ).format(n=count, kind=kind)
            answer = ", ".join(choose.sample(things, count))
            constraints = [{"type": "comma_list_count", "count": count}, {"type": "all_lowercase"}]
            yield Seed(how, answer, constraints, items=count)


def yes_or_no(choose: random.Random) -> Iterator[Seed]:
    for question, answer in bank("questions.txt"):
        how = choose.choice(
            (
                "{q} Answer with one word, yes or no.",
                "Reply only with yes or no: {q}",
                "{q} Say just yes or no.",
                "One word is enough, yes or no. {q}",
                "Yes or no, nothing more: {q}",
            )
        ).format(q=question)
        constraints = [
            {"type": "one_word_of", "words": ["yes", "no"]},
            {"type": "contains_words", "words": [answer]},
        ]
        yield Seed(how, answer, constraints, answer)


def arithmetic(choose: random.Random) -> Iterator[Seed]:
    for _ in range(72):
        person, goods = choose.choice(PEOPLE), choose.choice(GOODS)
        one, two = choose.randint(2, 9), choose.randint(1, 9)
        if choose.random() < 0.5:
            story = choose.choice(
                (
                    "{p} has {a} {g} and gets {b} more. How many {g} does {p} have?",
                    "{p} finds {a} {g} and then {b} more. How many are there in all?",
                    "There are {a} {g} on the table. {p} adds {b}. How many are there now?",
                )
            )
            worked, value = f"{one} + {two} = {one + two}", one + two
        else:
            one += two
            story = choose.choice(
                (
                    "{p} has {a} {g} and gives {b} away. How many {g} are left?",
                    "{p} had {a} {g} but lost {b}. How many remain?",
                    "Of {a} {g}, {p} sells {b}. How many are left?",
                )
            )
            worked, value = f"{one} - {two} = {one - two}", one - two
        how = choose.choice(
            (
                'Put "Answer:" and the number on the last line.',
                'End with a line like "Answer: 3".',
                'The last line must be "Answer:" followed by the number.',
                'Show the sum first, then a last line with "Answer:" and the result.',
                'Close with "Answer:" and the number on a line of its own.',
            )
        )
        text = story.format(p=person, g=goods, a=one, b=two)
        constraints = [
            {"type": "last_line_label", "label": "Answer:"},
            {"type": "final_answer", "value": str(value)},
        ]
        yield Seed(f"{text} {how}", f"{worked}\nAnswer: {value}", constraints, str(value))


FOLLOW_UPS = ("uppercase", "lowercase", "quoted", "bullets", "json", "ending", "title", "parts")
AGAIN = (
    "Good, once more.",
    "Now say that again.",
    "Thanks, but say it differently.",
    "Nice. Please do it again.",
    "Fine. Another version, please.",
)


def build() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of prompts.jsonl and responses.jsonl, without repeated conversations."""
    choose = random.Random(SEED)
    every_topic = topics()
    made: list[tuple[str, list[dict[str, str]], Seed]] = []
    for family, make in TOPIC_FAMILIES.items():
        for topic in choose.sample(every_topic, TOPICS_A_FAMILY):
            seed = make(topic, choose)
            lead = choose.choice(LEADS).format(name=topic.name)
            both = [lead, seed.instruction]
            made.append((family, [user(" ".join(both))], seed))
    for family in FOLLOW_UPS:
        for topic in choose.sample(every_topic, 14):
            seed = TOPIC_FAMILIES[family](topic, choose)
            lead = choose.choice(LEADS).format(name=topic.name)
            request = f"{choose.choice(AGAIN)} {seed.instruction}"
            history = [user(lead), {"role": "assistant", "content": topic.sentence}, user(request)]
            made.append((family, history, seed))
    for family, seeds in (("list", comma_lists), ("yesno", yes_or_no), ("sum", arithmetic)):
        made += [(family, [user(seed.instruction)], seed) for seed in seeds(choose)]
    for question, answer in bank("chat.txt"):
        made.append(("chat", [user(question)], Seed(question, answer, [])))
    return rows(made)


def rows(
    made: list[tuple[str, list[dict[str, str]], Seed]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    prompts, responses, seen, numbers = [], [], set(), {}
    for family, messages, seed in made:
        conversation = json.dumps(messages)
        if conversation in seen:
            continue
        seen.add(conversation)
        numbers[family] = numbers.get(family, 0) + 1
        prompt_id = f"seed-{family}-{numbers[family]:04d}"
        difficulty = DIFFICULTY[family] + seed.items + (len(messages) > 1)
        prompts.append(
            {
                "prompt_id": prompt_id,
                "messages": messages,
                "constraints": seed.constraints,
                "category": family,
                "difficulty": difficulty,
                "reference": seed.computed,
            }
        )
        responses.append({"prompt_id": prompt_id, "text": seed.answer})
    return prompts, responses


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def write(folder: Path) -> None:
    for name, content in zip(("prompts", "responses"), build(), strict=True):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in content]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
