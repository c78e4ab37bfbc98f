"""The keys that `arena migrate` looks for are those that version 0.3.0 made."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from arena_assets.config.judges import LLMJudge
from arena_assets.config.models import Endpoint, Sampling
from arena_assets.flywheel import old_keys
from arena_assets.generation.contestants import Contestant
from arena_assets.judging.judges import read_template
from arena_assets.lake.lake import Lake
from arena_assets.lake.tables import PROMPTS
from arena_assets.models.model import Local
from arena_assets.models.prompting import Example, SystemPrompt

TEMPLATE = "{# plain #}{% for m in messages %}{{ m.content }}{% endfor %}"
JUDGE = "version: pair-1\nsystem: Judge.\nuser: '{{ messages }} {{ answer_a }} {{ answer_b }}'\n"


def test_the_keys_of_version_030_are_as_that_version_made_them(tmp_path):
    """The right values were printed by its own code."""
    (tmp_path / "template.jinja").write_text(TEMPLATE, "utf-8")
    (tmp_path / "judge.yaml").write_text(JUDGE, "utf-8")
    edited = {"parameters": {"top_p": None, "n": None}, "extra_body": {"k": 1}}
    endpoint = Endpoint(urls=("http://a/v1",), model="m")
    other = Endpoint(urls=("http://a/v1",), model="m", version="2", system_role=False, **edited)
    assert old_keys.served(endpoint) == "faa572ab63f0694179fea75d7b2600e5"
    assert old_keys.served(other) == "a286ad4aadbf2f2680f3f0ab416b3e49"
    template = str(tmp_path / "template.jinja")
    assert old_keys.templated("weights", template) == "ce266688b2e3dd40e8229848e7b89ab6"

    model = Local("m", Path("m"), "of now")
    plain = Contestant("a", "target", model, Sampling())
    brief = SystemPrompt(
        version="v", system="Be brief.", examples=(Example(user="a", assistant="b"),)
    )
    drawing = Sampling(temperature=1, top_p=0.5, max_tokens=12, stop=("x",), seed=5)
    drawn = Contestant("a", "opponent", model, drawing, brief, 3)
    assert old_keys.answers(plain, "weights", 3) == "1038ce9a7067fc92afcf870bf6cb54b8"
    assert old_keys.answers(drawn, "weights", 3) == "b2f05078a9c066035012e72b3120d346"
    asked = [{"prompt_id": "p", "messages": [{"role": "user", "content": "hé"}]}]
    table = pa.Table.from_pylist(
        [row | {"constraints": "[]"} for row in asked],
        schema=pa.schema(
            [PROMPTS.schema.field(n) for n in ("prompt_id", "messages", "constraints")]
        ),
    )
    for who, key in (
        (plain, "1dcb4868e047a6fb7376688bae54658d"),
        (drawn, "9b8d68183fd7c93dda2e0987dee9b58f"),
    ):
        sql = f"select {old_keys.response_sql(who, 'weights', 3)} as key from asked"
        assert Lake(tmp_path).query(sql, asked=table).to_pylist() == [{"key": key}]

    judge = LLMJudge(kind="llm", name="j", model="m", template=str(tmp_path / "judge.yaml"))
    key = old_keys.verdicts(judge, read_template(judge.template), "weights")
    assert key == "4a99fef10415e67b9eecdaaa67ec892d"
    messages = [{"role": "system", "content": "Rate."}, {"role": "user", "content": "hé"}]
    key = old_keys.difficulty("weights", Sampling(max_tokens=256), messages)
    assert key == "39c8c019c912fa7f8d53a6490121ea18"
