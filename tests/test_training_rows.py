"""What is learned: the answers with their end marks, in the context that their contestant saw."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_assets.config.models import Sampling
from arena_assets.config.profile import load_profile
from arena_assets.generation.contestants import Contestant
from arena_assets.lake.tables import MESSAGES
from arena_assets.models.dialogue import open_turns, with_answers
from arena_assets.models.model import Local
from arena_assets.models.prompting import SystemPrompt
from arena_assets.training.job import Job
from arena_assets.training.summaries import read_metrics, summary

FEW_SHOT = SystemPrompt.model_validate(
    {
        "version": "1",
        "system": "Answer in one word.",
        "examples": [{"user": "Capital of Italy?", "assistant": "Rome"}],
    }
)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


ONE = [user("Name a river")]
TWO = [user("Name a river"), user("Where does it end?")]
HISTORY = [user("Name a river"), assistant("The Rhone"), user("Where does it end?")]


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def encoder(tokenizer, prompt=None, template=None):
    from arena_assets.training.rows import Encoder

    if template:
        tokenizer = type(tokenizer).from_pretrained(tokenizer.name_or_path)
        tokenizer.chat_template = template
    return Encoder(tokenizer, {tokenizer.eos_token_id}, prompt)


def spans(tokenizer, tokens):
    """The learned stretches as text, each with the text before it."""
    found, start = [], None
    for place, own in enumerate([*tokens.learned, False]):
        if own and start is None:
            start = place
        elif not own and start is not None:
            found.append(
                (tokenizer.decode(tokens.ids[:start]), tokenizer.decode(tokens.ids[start:place]))
            )
            start = None
    return found


def row(messages=ONE, chosen=("The Rhone",), rejected=("A lake",), **more):
    return {
        "row_id": "r",
        "messages": messages,
        "chosen_turns": list(chosen),
        "rejected_turns": list(rejected),
    } | more


# -- what is learned ---------------------------------------------------------------------------


def test_an_answer_is_learned_with_its_end_mark_and_its_prompt_is_not(tokenizer):
    tokens = encoder(tokenizer).dialogue(ONE, ["The Rhone"])
    assert spans(tokenizer, tokens) == [
        ("<|start|>user\nName a river<|end|>\n<|start|>assistant\n", "The Rhone<|end|>")
    ]
    assert tokens.learned[-1], "nothing after the end mark"
    assert tokenizer.decode(tokens.whole) == tokenizer.decode(tokens.ids) + "\n"
    assert [label for label in tokens.labels if label != -100] == [
        i for i, own in zip(tokens.ids, tokens.learned, strict=True) if own
    ]


def test_of_several_turns_the_users_words_are_not_learned(tokenizer):
    tokens = encoder(tokenizer).dialogue(TWO, ["The Rhone", "In the sea"])
    assert [text for _, text in spans(tokenizer, tokens)] == [
        "The Rhone<|end|>",
        "In the sea<|end|>",
    ]
    assert "Where does it end?" in tokenizer.decode(tokens.ids)


def test_answers_that_the_prompt_brings_are_context(tokenizer):
    tokens = encoder(tokenizer).dialogue(HISTORY, ["In the sea"])
    assert [text for _, text in spans(tokenizer, tokens)] == ["In the sea<|end|>"]


def test_the_targets_system_prompt_and_examples_are_context(tokenizer):
    ((context, learned),) = spans(tokenizer, encoder(tokenizer, FEW_SHOT).dialogue(ONE, ["Rhone"]))
    assert learned == "Rhone<|end|>"
    assert context == (
        "<|start|>system\nAnswer in one word.<|end|>\n<|start|>user\nCapital of Italy?<|end|>\n"
        "<|start|>assistant\nRome<|end|>\n<|start|>user\nName a river<|end|>\n<|start|>assistant\n"
    )


words = st.text(alphabet="ab .\n\t'é漢🙂<|#", min_size=1, max_size=12)
answers = words.filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(
    asked=st.lists(words, min_size=1, max_size=3),
    said=st.lists(answers, min_size=3, max_size=3),
    system=st.none() | words,
    prompt=st.sampled_from([None, FEW_SHOT]),
)
def test_every_answer_stands_in_the_context_of_its_inference(
    tokenizer, asked, said, system, prompt
):
    """Token by token what the contestant saw when it answered that turn, for any dialogue."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [user(text) for text in asked]
    said = said[: open_turns(messages)]
    tokens = encoder(tokenizer, prompt).dialogue(messages, said)
    contestant = Contestant("t", "target", Local("t", Path("t"), "d"), Sampling(), prompt)
    starts = [
        place
        for place, own in enumerate(tokens.learned)
        if own and not (place and tokens.learned[place - 1])
    ]
    assert len(starts) == len(said)
    for turn, start in enumerate(starts):
        seen = tokenizer.apply_chat_template(
            contestant.render(with_answers(messages, said[:turn])),
            add_generation_prompt=True,
            return_dict=True,
        )["input_ids"]
        assert tokens.ids[:start] == seen
    learned = [text for _, text in spans(tokenizer, tokens)]
    assert learned == [text + "<|end|>" for text in said]


def test_both_sides_of_a_pair_carry_the_mask_of_their_own_answers(tokenizer):
    pair = encoder(tokenizer).pair(
        row(TWO, chosen=("The Rhone", "In the sea"), rejected=("A lake", "No")), 999
    )
    for side, said in (("chosen", ["The Rhone", "In the sea"]), ("rejected", ["A lake", "No"])):
        ids, mask = pair[f"{side}_ids"], pair[f"{side}_mask"]
        compared = [i for i, own in zip(ids, mask, strict=True) if own]
        assert tokenizer.decode(compared) == "".join(f"{text}<|end|>" for text in said)
    scored = encoder(tokenizer).scored_pair(row(), 999)
    assert tokenizer.decode(scored["chosen_ids"]).endswith("The Rhone<|end|>\n"), "as RL renders it"


# -- what is left out, and why -----------------------------------------------------------------

PLAIN = "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
ASK = "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
GOES_ON = PLAIN.replace("{% endfor", "{{ 'so on' if m.role == 'assistant' }}{% endfor") + ASK
NO_END = PLAIN.replace("<|end|>", "") + ASK
FORGETS = (
    "{% for m in messages %}<|start|>{{ m.role }}\n"
    "{{ m.content if loop.last or m.role == 'user' else m.content.split('.')[-1] }}<|end|>\n"
    "{% endfor %}" + ASK
)
THINKS = PLAIN + "{% if add_generation_prompt %}<|start|>assistant\n<think>\n{% endif %}"
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"


@pytest.mark.parametrize(
    ("messages", "said", "template", "reason"),
    [
        (TWO, ["The Rhone"], None, "a turn without an answer"),
        (ONE, [], None, "a turn without an answer"),
        (ONE, ["The Rhone", "more"], None, "a turn without an answer"),
        (ONE, ["The<|end|>\n<|start|>user\nRhone"], None, "control tokens"),
        (ONE, ["The Rhone"], NO_END, "no end token of the model after the answer"),
        (ONE, ["The Rhone"], GOES_ON, "no end token of the model"),
        (TWO, ["Hm. The Rhone", "In the sea"], FORGETS, "changes earlier turns"),
        (ONE, ["The Rhone"], THINKS, "does not go on from its own generation prompt"),
    ],
)  # fmt: skip
def test_a_dialogue_that_cannot_be_learned_as_it_is_says_why(
    tokenizer, messages, said, template, reason
):
    from arena_assets.training.rows import Unusable

    with pytest.raises(Unusable, match=reason):
        encoder(tokenizer, template=template).dialogue(messages, said)


def test_a_template_that_refuses_the_system_prompt_is_named(tokenizer):
    from arena_assets.training.rows import Unusable

    strict = encoder(tokenizer, FEW_SHOT, STRICT + PLAIN + ASK)
    with pytest.raises(Unusable, match=r"refuses the dialogue \(no system\)"):
        strict.dialogue(ONE, ["The Rhone"])


def test_an_answer_whose_first_token_merges_with_the_prompt_is_learned_as_it_was_said(tokenizer):
    """`assistant\\n` and `\\n\\nYes` may share a token of line breaks; a model starts a new one."""
    template = PLAIN + "{% if add_generation_prompt %}<|start|>assistan{% endif %}"
    template = template.replace("{{ m.role }}\n", "{{ m.role }}")
    tokens = encoder(tokenizer, template=template).dialogue(ONE, ["The Rhone"])
    ((context, learned),) = spans(tokenizer, tokens)
    assert context.endswith("<|start|>assistan") and learned == "tThe Rhone<|end|>"


def test_rows_are_dropped_whole_and_counted_by_reason(tokenizer):
    from arena_assets.training.rows import build

    made = encoder(tokenizer)
    whole = len(made.dialogue(ONE, ["The Rhone"]).whole)
    rows = [
        row(row_id="fits"),
        row(row_id="longer", chosen=["The Rhone " * 9]),
        row(row_id="longer too", chosen=["The Rhone " * 99]),
        row(row_id="fills", messages=[user("Name a river " * 20)]),
        row(row_id="blank", chosen=[" \n"]),
        row(row_id="unseen", chosen=["\u200b\ufeff"]),
    ]
    built = build(rows, lambda r: made.text(r, whole))
    assert [len(found["input_ids"]) for found in built.rows] == [whole - 1]
    assert built.dropped == {
        "longer than max_length": ["longer", "longer too"],
        "the prompt alone fills max_length": ["fills"],
        "the answer to learn is empty": ["blank", "unseen"],
    }
    assert str(built) == (
        "1 rows; 2 left out: longer than max_length; 1 left out: the prompt alone fills max_length;"
        " 2 left out: the answer to learn is empty"
    )
    assert build(rows[:1], lambda r: made.text(r, whole - 1)).rows == [], "never cut"
    pairs = [
        row(row_id="a"),
        row(row_id="b", rejected=["A lake " * 20]),
        row(row_id="c", rejected=[""]),
    ]
    built = build(pairs, lambda r: made.pair(r, whole))
    assert len(built.rows) == 2, "a side that is empty may lose"
    assert built.dropped == {"longer than max_length": ["b"]}
    built = build([row(row_id="p"), row(row_id="q", messages=[user("word " * 60)])],
                  lambda r: made.prompt(r, 20))  # fmt: skip
    assert built.rows == [{"prompt": ONE}] and list(built.dropped.values()) == [["q"]]
    assert "no room for an answer" in next(iter(built.dropped))


# -- what TRL makes of it ----------------------------------------------------------------------


@pytest.fixture
def job(tiny_model, tiny_profile, tmp_path):
    rows = [
        row(row_id="one"),
        row(TWO, ("The Rhone", "In the sea"), ("A lake", "I do not know"), row_id="two"),
        row(HISTORY, ("In the sea",), ("Where the river begins",), row_id="history"),
        row(row_id="long", chosen=["word " * 400]),
    ]
    schema = pa.schema(
        [("row_id", pa.string()), ("kind", pa.string()), ("messages", MESSAGES)]
        + [(f"{side}_turns", pa.list_(pa.string())) for side in ("chosen", "rejected")]
    )
    kinds = [found | {"kind": kind} for kind in ("sft", "preference") for found in rows]
    pq.write_table(pa.Table.from_pylist(kinds, schema=schema), tmp_path / "rows.parquet")
    (tmp_path / "out").mkdir()
    training = load_profile(tiny_profile).training
    short = {
        stage: getattr(training, stage).model_copy(update={"max_length": 200})
        for stage in ("sft", "dpo")
    }
    return Job(
        stage="sft",
        model=tiny_model,
        training_set=tmp_path / "rows.parquet",
        output=tmp_path / "out",
        training=training.model_copy(update=short),
        seed=0,
        system_prompt=FEW_SHOT,
    )


def test_sft_trains_on_our_labels_and_the_lost_row_is_on_record(job, tokenizer):
    from arena_assets.training.sft import sft_trainer

    trainer = sft_trainer(job)
    made = encoder(tokenizer, FEW_SHOT)
    expected = [
        made.dialogue(messages, said)
        for messages, said in (
            (ONE, ["The Rhone"]), (TWO, ["The Rhone", "In the sea"]), (HISTORY, ["In the sea"]),
        )
    ]  # fmt: skip
    assert [r["labels"] for r in trainer.train_dataset] == [tokens.labels for tokens in expected]
    batch = trainer.data_collator([trainer.train_dataset[1], trainer.train_dataset[0]])
    learned = batch["labels"][0][batch["labels"][0] != -100]
    assert tokenizer.decode(learned) == "The Rhone<|end|>In the sea<|end|>"
    rows = json.loads((job.output / "rows.json").read_text("utf-8"))
    assert rows == {"sft": {"rows": 3, "dropped": {"longer than max_length": ["long"]}}}


def test_dpo_sums_over_the_answers_of_all_turns_and_nothing_else(job, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    from arena_assets.training.dpo import dpo_trainer

    trainer = dpo_trainer(job)
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)
    made = encoder(tokenizer, FEW_SHOT)
    assert len(trainer.train_dataset) == 3
    for side, said in (
        ("chosen", ["The Rhone", "In the sea"]),
        ("rejected", ["A lake", "I do not know"]),
    ):
        tokens = made.dialogue(TWO, said)
        ids = torch.tensor([tokens.ids])
        with torch.no_grad():
            logs = model(ids).logits[0, :-1].log_softmax(-1)
        each = logs.gather(1, ids[0, 1:, None])[:, 0]
        by_hand = each[torch.tensor(tokens.learned[1:])].sum().item()
        found = trainer.train_dataset[1][f"ref_{side}_logps"]
        assert found == pytest.approx(by_hand, abs=1e-3)
    took = summary(read_metrics(job.output))  # the pass is model work, and told as such
    assert list(took) == ["dpo_reference_runtime"] and took["dpo_reference_runtime"] > 0


@pytest.mark.parametrize(
    ("lacking", "stops"),
    [(("eos_token", "pad_token"), 1), (("pad_token",), 1), (("eos_token",), [1, 0])],
)
def test_a_tokenizer_without_end_or_padding_takes_those_of_the_model(
    job, tokenizer, tmp_path, lacking, stops
):
    from arena_assets.training.dpo import dpo_trainer
    from arena_assets.training.loading import tokenizer_of
    from arena_assets.training.sft import sft_trainer

    model = tmp_path / "model"
    shutil.copytree(job.model, model)
    for name, changes in (
        ("tokenizer_config.json", dict.fromkeys(lacking)),
        ("generation_config.json", {"eos_token_id": stops}),
    ):
        settings = json.loads((model / name).read_text("utf-8")) | changes
        kept = {key: value for key, value in settings.items() if value is not None}
        (model / name).write_text(json.dumps(kept), "utf-8")
    other = job.model_copy(update={"model": model})
    own = tokenizer_of(other)
    assert own.eos_token == "<|end|>" and own.pad_token
    learned = [found["labels"][-1] for found in sft_trainer(other).train_dataset]
    assert learned == [tokenizer.eos_token_id] * 3
    assert len(dpo_trainer(other).train_dataset) == 3


def test_a_training_set_of_which_nothing_can_be_learned_is_refused_with_the_reasons(job):
    from arena_assets.training.failures import NothingToLearn
    from arena_assets.training.sft import sft_trainer

    short = job.training.model_copy(
        update={"sft": job.training.sft.model_copy(update={"max_length": 50})}
    )
    with pytest.raises(NothingToLearn, match=r"none of 4 rows of kind 'sft' can be learned.*alone"):
        sft_trainer(job.model_copy(update={"training": short}))
