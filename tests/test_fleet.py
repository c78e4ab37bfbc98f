"""A fleet of servers: whoever fails hands on, rests and comes back; nobody waits for the dead."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
import subprocess
import time
from collections import Counter
from email.utils import formatdate
from itertools import repeat
from shutil import which

import pytest
from fault_server import FaultServer

from arena_assets.config.models import Endpoint, Sampling
from arena_assets.models.engine import BackendDown, Request
from arena_assets.models.served import fleet as fleets
from arena_assets.models.served.fleet import Fleet
from arena_assets.models.served.openai_engine import SILENCE, OpenAIEngine
from arena_assets.models.served.problems import (
    Misconfigured,
    Passing,
    Rejected,
    TimedOut,
    Unreachable,
    retry_after,
)

A, B, C = "http://a/v1", "http://b/v1", "http://c/v1"


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self, patch):
        self.now, self.slept = 1000.0, []
        patch.setattr(fleets.time, "monotonic", lambda: self.now)
        patch.setattr(fleets.asyncio, "sleep", self.sleep)
        patch.setattr(fleets.random, "uniform", lambda low, high: high)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Servers:
    """Servers that do what `state` says now; `asked` is who was asked, in order."""

    def __init__(self, clock=None, **state):
        self.state, self.asked, self.clock = state, [], clock

    async def post(self, url):
        name = url[7]
        self.asked.append(name)
        does = self.state[name]
        if isinstance(does, TimedOut):
            self.clock.now += 600
        if isinstance(does, Exception):
            raise does
        return f"answer of {name}"


def prompt_of(fleet: Fleet, url: str) -> str:
    """A prompt at home on this server."""
    servers = [server.url for server in fleet.servers]

    async def who(url):
        return url

    for number in range(100):
        if asyncio.run(Fleet(servers, 0).ask(f"p{number}", who)) == url:
            return f"p{number}"
    raise AssertionError


def ask(fleet, servers, home=A):
    return asyncio.run(fleet.ask(prompt_of(fleet, home), servers.post))


FAILURES = [
    Passing("500"),
    Passing("429", wait=30.0),
    Misconfigured("404"),
    TimedOut("nothing"),
    Unreachable("nobody"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_any_failure_moves_a_prompt_on_at_once(failure, clock):
    fleet, servers = Fleet([A, B, C], 0), Servers(clock, a=failure, b=failure, c=None)
    assert ask(fleet, servers) == "answer of c"
    assert servers.asked == ["a", "b", "c"] and not clock.slept


def test_what_the_request_does_wrong_is_asked_nobody_else(clock):
    servers = Servers(clock, a=Rejected("too long"), b=None)
    with pytest.raises(Rejected):
        ask(Fleet([A, B], 6), servers)
    assert servers.asked == ["a"]


def test_one_failure_may_be_bad_luck_and_two_are_a_reason_to_rest(clock):
    fleet, servers = Fleet([A, B], 0), Servers(clock, a=Passing("500"), b=None)
    for _ in range(4):
        assert ask(fleet, servers) == "answer of b"
    assert servers.asked == ["a", "b", "a", "b", "b", "b"]


def test_a_server_that_never_answers_rests_as_long_as_it_cost(clock, caplog):
    fleet, servers = Fleet([A, B], 0), Servers(clock, a=TimedOut("no answer in 600 s"), b=None)
    with caplog.at_level(logging.WARNING):
        assert ask(fleet, servers) == "answer of b"
    assert [record.getMessage() for record in caplog.records] == [
        "http://a/v1 rests for 600 s: no answer in 600 s"
    ]
    for _ in range(5):
        ask(fleet, servers)
    assert servers.asked == ["a", *"bbbbbb"]
    clock.now += 601
    assert ask(fleet, servers) == "answer of b" and servers.asked[-2:] == ["a", "b"], "tried again"
    clock.now += 601
    servers.state["a"] = None
    assert ask(fleet, servers) == "answer of a" and ask(fleet, servers) == "answer of a"


def test_rests_grow_with_every_failed_try(clock):
    fleet, servers = Fleet([A, B], 0), Servers(clock, a=Unreachable("nobody"), b=None)
    rests = []
    for _ in range(12):
        ask(fleet, servers)
        rests.append(fleet.servers[0].rests_until - clock.now)
        clock.now = fleet.servers[0].rests_until
    assert rests == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]


def test_one_request_finds_out_whether_a_server_is_back(clock):
    fleet = Fleet([A, B], 0)
    ask(fleet, Servers(clock, a=Unreachable("nobody"), b=None))
    clock.now += 2
    asked = []

    async def all_at_once():
        answered = asyncio.Event()

        async def post(url):
            asked.append(url)
            if url == A:
                await answered.wait()
            elif asked.count(B) == 5:
                answered.set()
            return url

        home = prompt_of_a
        return await asyncio.gather(*(fleet.ask(home, post) for _ in range(6)))

    prompt_of_a = prompt_of(fleet, A)
    assert Counter(asyncio.run(all_at_once())) == {A: 1, B: 5}
    assert ask(fleet, Servers(clock, a=None, b=None)) == "answer of a"


def test_a_server_alone_is_asked_again_after_growing_pauses(clock):
    servers = Servers(clock, a=Passing("503"))
    with pytest.raises(Passing, match="503"):
        ask(Fleet([A], 6), servers)
    assert servers.asked == ["a"] * 7 and clock.slept == [0.5, 1, 2, 4, 8, 8]


def test_a_fleet_is_asked_round_after_round(clock):
    servers = Servers(clock, a=Passing("500"), b=Passing("503"))
    with pytest.raises(Passing, match="503"):
        ask(Fleet([A, B], 4), servers)
    assert servers.asked == ["a", "b"] * 3 and clock.slept == [0.5, 1]


def test_a_request_that_times_out_everywhere_is_given_up_after_two_rounds(clock):
    servers = Servers(clock, a=TimedOut("nothing"), b=TimedOut("nothing"))
    with pytest.raises(TimedOut):
        ask(Fleet([A, B], 6), servers)
    assert servers.asked == ["a", "b"] * 2


def test_a_retry_after_is_waited_for_unless_it_is_too_long(clock):
    with pytest.raises(Passing):
        ask(Fleet([A], 2), Servers(clock, a=Passing("429", wait=20.0)))
    assert clock.slept == [20.0, 20.0]
    servers = Servers(clock, a=Passing("429: slow down", wait=300.0))
    sentence = "429: slow down; the server asks to wait 300 s, longer than the 60 s that are waited"
    with pytest.raises(Passing, match=sentence):
        ask(Fleet([A], 6), servers)
    assert servers.asked == ["a"]


def test_a_server_that_refuses_everybody_does_not_stop_a_fleet(clock):
    fleet, servers = Fleet([A, B], 3), Servers(clock, a=Misconfigured("401"), b=None)
    assert ask(fleet, servers) == "answer of b"
    servers.state["b"] = Misconfigured("404")
    with pytest.raises(Misconfigured):
        ask(fleet, servers)
    servers.state["b"] = Passing("503")
    servers.asked.clear()
    with pytest.raises(Passing, match="503"):
        ask(fleet, servers)
    assert servers.asked.count("a") <= 1, "it would say the same"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_what_a_retry_after_asks_for(header, seconds):
    assert retry_after(header) == seconds


def test_a_retry_after_may_be_a_date():
    seconds = retry_after({"retry-after": formatdate(time.time() + 100, usegmt=True)})
    assert 90 < seconds <= 100


# -- over sockets ----------------------------------------------------------------------------


def requests_of(count: int) -> list[Request]:
    return [Request(f"p{n}", [{"role": "user", "content": f"q{n}"}]) for n in range(count)]


def engine_of(*urls: str, **changes) -> OpenAIEngine:
    return OpenAIEngine(Endpoint(urls=urls, **({"model": "any", "timeout": 5.0} | changes)))


@pytest.mark.parametrize(
    "sick",
    ["500", "a gateway's page", "no model", "429:30", "html", "closed", "truncated", "no key"],
)
def test_a_sick_server_leaves_its_prompts_to_the_healthy_one(sick):
    with FaultServer(default=sick) as one, FaultServer() as other:
        engine = engine_of(one.url, other.url, retries=0, concurrency=4)
        answers = engine.chat(requests_of(12), Sampling())
    assert [sample.finish_reason for [sample] in answers] == ["stop"] * 12
    assert len(one.received) <= 6, "it was left alone after that"


def test_a_server_that_accepts_and_never_answers_costs_one_timeout_a_run():
    with FaultServer(default="timeout:60") as hung, FaultServer() as other:
        engine = engine_of(hung.url, other.url, timeout=0.6, concurrency=4, retries=6)
        began = time.monotonic()
        for _ in range(3):  # batches
            answers = engine.chat(requests_of(12), Sampling())
            assert [sample.finish_reason for [sample] in answers] == ["stop"] * 12
        spent = time.monotonic() - began
    # four at first, all at once, then one now and then
    assert len(hung.received) <= 7 and spent < 5


def test_a_byte_now_and_then_does_not_stretch_the_time_that_a_request_has():
    with FaultServer({"q0": ["drip:0.05"]}) as server:
        began = time.monotonic()
        engine = engine_of(server.url, timeout=0.5, retries=0)
        [[slow], [fine]] = engine.chat(requests_of(2), Sampling())
        assert time.monotonic() - began < 3
    assert slow.error == "no answer within 0.5 s (endpoint.timeout)" and fine.text


def test_servers_that_are_gone_are_not_asked_for_every_prompt(monkeypatch):
    monkeypatch.setattr(fleets, "FIRST_PAUSE", 0.001)
    with FaultServer(default="500") as server:
        with pytest.raises(BackendDown, match="requests in a row were not answered"):
            engine_of(server.url, retries=1, concurrency=4).chat(requests_of(200), Sampling())
    assert len(server.received) <= 2 * (SILENCE + 4)


def test_a_few_bad_prompts_in_the_end_do_not_stop_a_run(monkeypatch):
    monkeypatch.setattr(fleets, "FIRST_PAUSE", 0.001)
    with FaultServer({f"q{n}": repeat("500") for n in range(10, 13)}) as server:
        engine = engine_of(server.url, retries=1)
        engine.chat(requests_of(10), Sampling())
        answers = engine.chat(requests_of(13)[10:], Sampling())
    assert [sample.error for [sample] in answers] == ["500: unhappy with None"] * 3


@pytest.fixture(scope="module")
def tls_url(tmp_path_factory):
    """A port that speaks TLS, and nothing else."""
    if not which("openssl"):
        pytest.skip("openssl makes the certificate, and is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", "key.pem", "-out", "certificate.pem", "-subj", "/CN=localhost"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    with FaultServer(tls=context) as server:
        yield server.url


def test_http_and_https_mixed_up_are_told_at_once(tls_url):
    said = {}
    with FaultServer() as plain:
        for url in (
            plain.url.replace("http:", "https:"),
            tls_url,
            tls_url.replace("http:", "https:"),
        ):
            began = time.monotonic()
            with pytest.raises(BackendDown) as stopped:
                engine_of(url, retries=6).chat(requests_of(1), Sampling())
            assert time.monotonic() - began < 4, "not after retries"
            said[url] = str(stopped.value)
    first, second, third = said.values()
    assert "the server seems to speak http://" in first
    assert "the server speaks https://, endpoint.urls says http://" in second
    assert "SSL_CERT_FILE" in third


def test_a_host_that_is_not_known_is_told_at_once(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(BackendDown, match="names a host that is not known"):
        engine_of("http://no-such-host/v1", retries=6).chat(requests_of(1), Sampling())


def test_the_load_of_a_fleet_is_spread_and_stays_so():
    dice = random.Random(3)
    homes = Counter()

    async def who(url):
        homes[url] += 1
        return url

    fleet = Fleet([A, B, C], 0)
    prompts = [f"{dice.random()}" for _ in range(300)]
    first = [asyncio.run(fleet.ask(prompt, who)) for prompt in prompts]
    assert first == [asyncio.run(fleet.ask(prompt, who)) for prompt in prompts]
    assert min(homes.values()) > 140, homes
