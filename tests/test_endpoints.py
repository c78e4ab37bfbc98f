"""What a profile says of servers: addresses, parameters, and what of it makes another model."""

from __future__ import annotations

import pytest
import yaml
from conftest import PROJECT
from fault_server import FaultServer
from pydantic import ValidationError

from arena_assets.config.models import Endpoint, Sampling
from arena_assets.config.profile import load_profile
from arena_assets.config.settings_files import ProfileError
from arena_assets.lake.identity import identity as identity_of
from arena_assets.models.engine import Request
from arena_assets.models.served.openai_engine import OpenAIEngine
from arena_assets.models.served.parameters import folded
from arena_assets.models.weights import served_digest

SCHEMA = {"type": "object", "properties": {}}
DIALOGUE = [
    {"role": "system", "content": "Rhyme."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ho"},
    {"role": "user", "content": "Bye"},
]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:8000/v1", "does not start with http:// or https://"),
        ("10.0.0.1:8000/v1", "does not start with http:// or https://"),
        ("htp://localhost:8000/v1", "does not start with http:// or https://"),
        ("http://localhost:99999/v1", "Port out of range 0-65535"),
        ("http://localhost:eight/v1", "Port could not be cast"),
        ("http://localhost:0/v1", "names no host or no port"),
        ("http:///v1", "names no host or no port"),
        ("http://[::1/v1", "Invalid IPv6 URL"),
        ("http://local host/v1", "does not start with http:// or https://"),
        ("http://me:secret@localhost/v1", "api_key_env names where the key is"),
        ("http://localhost/v1?version=2", "nothing may follow the path"),
        ("http://localhost/v1/chat/completions", "give the base URL, 'http://localhost/v1'"),
    ],
)
def test_an_address_that_cannot_be_right_is_refused_when_the_profile_is_read(url, said):
    with pytest.raises(ValidationError) as refused:
        Endpoint(urls=(url,), model="m")
    [problem] = refused.value.errors()
    assert problem["loc"] == ("urls", 0) and said in problem["msg"]
    assert "secret" not in problem["msg"]


def test_a_profile_names_the_place_of_an_address_that_is_wrong(tmp_path):
    profile = yaml.safe_load((PROJECT / "profiles" / "pocket.yaml").read_text("utf-8"))
    profile["models"]["served"] = {"endpoint": {"urls": ["gpu-1:8000/v1"], "model": "m"}}
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump(profile), "utf-8")
    with pytest.raises(ProfileError) as refused:
        load_profile(path)
    assert str(refused.value) == (
        f"{path}: models.served.endpoint.urls.0: 'gpu-1:8000/v1' does not start with http:// or "
        "https:// (for example http://10.0.0.1:8000/v1)"
    )


def test_addresses_that_are_right_are_taken():
    with pytest.raises(ValidationError, match="name at least one server"):
        Endpoint(urls=(), model="m")
    urls = ("http://localhost:8000/v1/", "https://api.example.com/openai/v1beta", "HTTP://[::1]:80")
    endpoint = Endpoint(urls=urls, model="m")
    assert endpoint.urls == (urls[0][:-1], *urls[1:])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"parameters": {"max_token": "x"}},
            "Input should be 'temperature', 'top_p', 'max_t",
        ),
        ({"parameters": {"seed": None}}, "parameters.seed: write seeds: false instead"),
        ({"parameters": {"response_format": None}}, "write structured_outputs: false instead"),
        ({"extra_body": {"stream": True}}, "extra_body.stream: this is the arena's own to say"),
        ({"extra_body": {"n": 2}}, "extra_body.n: this is the arena's own to say"),
        ({"extra_body": {"temperature": 1}}, "parameters: {temperature: null} as well"),
        (
            {"parameters": {"max_tokens": "limit"}, "extra_body": {"limit": 5}},
            "extra_body.limit: sent already",
        ),
    ],
)
def test_parameters_that_contradict_the_arenas_are_refused(settings, said):
    with pytest.raises(ValidationError) as refused:
        Endpoint(urls=("http://a/v1",), model="m", **settings)
    assert said in str(refused.value)


def sent(samples=1, json_schema=None, sampling=None, messages=None, **settings) -> dict:
    """The body of a request to a server with these settings."""
    sampling = sampling or Sampling(temperature=0.5, top_p=0.9, max_tokens=9, seed=4)
    with FaultServer() as server:
        engine = OpenAIEngine(Endpoint(urls=(server.url,), model="any", **settings))
        request = Request("p", messages or [{"role": "user", "content": "Hi"}])
        engine.chat([request], sampling, samples, json_schema)
    return server.received[0].body


def test_parameters_are_renamed_left_out_and_added():
    body = sent(
        parameters={
            "max_tokens": "max_completion_tokens",
            "temperature": None,
            "seed": "random",
        },
        extra_body={"reasoning_effort": "low", "temperature": 1, "top_k": 20},
    )
    del body["messages"], body["model"]
    assert body == {
        "max_completion_tokens": 9,
        "top_p": 0.9,
        "random": 4,
        "reasoning_effort": "low",
        "temperature": 1,
        "top_k": 20,
    }


def test_n_is_sent_only_where_several_samples_are_wanted_and_allowed():
    assert "n" not in sent() and sent(samples=3)["n"] == 3
    assert "n" not in sent(samples=3, parameters={"n": None})


def test_a_schema_is_not_sent_where_the_server_takes_none():
    assert "response_format" in sent(json_schema=SCHEMA)
    assert "response_format" not in sent(json_schema=SCHEMA, structured_outputs=False)


def test_a_system_prompt_moves_into_the_first_user_turn_where_there_is_no_such_role():
    assert sent(messages=DIALOGUE)["messages"] == DIALOGUE
    assert sent(messages=DIALOGUE, system_role=False)["messages"] == [
        {"role": "user", "content": "Rhyme.\n\nHi"},
        *DIALOGUE[2:],
    ]
    assert folded(DIALOGUE[:1]) == [{"role": "user", "content": "Rhyme."}]


def identity(**settings) -> str:
    return served_digest(Endpoint(**({"urls": ("http://a/v1",), "model": "m"} | settings)))


def test_what_determines_the_text_makes_another_model_and_the_rest_does_not():
    plain = identity()
    assert plain == identity_of("served model", endpoint={"model": "m"}), "defaults are left out"
    for neutral in (
        {"urls": ("http://b/v1",)},
        {"timeout": 5, "retries": 1, "concurrency": 2, "api_key_env": "KEY", "seeds": False},
        {"parameters": {"max_tokens": "max_completion_tokens", "n": None}},
    ):
        assert identity(**neutral) == plain
    others = [
        {"model": "another"},
        {"version": "2"},
        {"parameters": {"temperature": None}},
        {"parameters": {"top_p": None}},
        {"extra_body": {"reasoning_effort": "low"}},
        {"extra_body": {"reasoning_effort": "high"}},
        {"system_role": False},
        {"structured_outputs": False},
    ]
    assert len({plain, *(identity(**other) for other in others)}) == 1 + len(others)
