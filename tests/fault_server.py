"""A chat-completions server that fails as scripted, to test what talks to such servers.

    with FaultServer({"first prompt": ["429:0.4", "html"], "second": repeat("400")}) as server:
        engine = OpenAIEngine(Endpoint(urls=(server.url,), model="any", timeout=0.5))

A script belongs to a prompt (the last message) and has one fault a try; after its end every try is
answered. Answers follow from the conversation alone, so that a second server gives the same ones.
Besides the faults below, a script may name one of the quirks in server_quirks.py.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from server_quirks import BODIES, STATUSES, WIRE

TRANSIENT = (
    "429:0.4",  # with Retry-After, in seconds
    "500",
    "timeout",  # says nothing until the client has given up
    "truncated",  # closes the connection in the middle of the body
    "invalid-json",
    "html",  # with status 200, as a proxy in front of the server may say
    "no-choices",
    "closed",  # closes the connection without a word
)
HARMLESS = ("slow:0.2",)  # answers after some seconds
# "too-few": one choice less than asked for
FINAL = ("400", "refused")  # "refused": answered, with the finish reason of a content filter


def conversation_hash(messages: list[dict[str, str]]) -> str:
    return hashlib.sha256(json.dumps(messages).encode()).hexdigest()


def echo(messages: list[dict[str, str]], sample: int) -> str:
    """An answer that shows which conversation and which sample it belongs to."""
    return f"{conversation_hash(messages)[:16]}-{sample}"


def verdict(messages: list[dict[str, str]], sample: int) -> str:
    """A judge's answer, with scores that follow from the conversation."""
    digest = conversation_hash(messages)
    scores = {"score_a": 1 + int(digest[:4], 16) % 10, "score_b": 1 + int(digest[4:8], 16) % 10}
    return json.dumps({"explanation": f"As {echo(messages, sample)} says."} | scores)


@dataclass(frozen=True)
class Received:
    """A request as it came in; `attempt` counts a prompt's tries from 1."""

    prompt: str
    attempt: int
    at: float
    headers: dict[str, str]
    body: dict[str, Any]


class FaultServer:
    """A server on a free port of this machine, from entering the context to leaving it.

    `reply` makes the answers; a request with a response_format, and with `judge` every request, is
    answered with a verdict. `honours_n` off: one choice, whatever is asked for; `default` is what
    happens to prompts without a script.
    """

    def __init__(
        self,
        faults: dict[str, Iterable[str]] | None = None,
        judge: bool = False,
        reply: Callable[[list[dict[str, str]], int], str] = echo,
        honours_n: bool = True,
        default: str = "answer",
        tls: ssl.SSLContext | None = None,
    ):
        self._honours_n = honours_n
        self._default = default
        self._faults = {prompt: iter(script) for prompt, script in (faults or {}).items()}
        self._reply = verdict if judge else reply
        self._lock = threading.Lock()
        self._attempts: Counter[str] = Counter()
        self._under_way = 0
        self.closing = threading.Event()
        self.received: list[Received] = []
        self.answered: Counter[str] = Counter()
        self.most_at_once = 0
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> FaultServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def tries(self, prompt: str) -> list[Received]:
        return [received for received in self.received if received.prompt == prompt]

    def begin(self, headers: dict[str, str], body: dict[str, Any]) -> tuple[str, str]:
        """Record a request; returns its prompt and what the script has for this try."""
        prompt = body["messages"][-1]["content"]
        with self._lock:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            self._attempts[prompt] += 1
            attempt = self._attempts[prompt]
            self.received.append(Received(prompt, attempt, time.monotonic(), headers, body))
            return prompt, next(self._faults.get(prompt, iter(())), self._default)

    def end(self) -> None:
        with self._lock:
            self._under_way -= 1

    def answer(self, prompt: str, body: dict[str, Any], missing: int = 0) -> dict[str, Any]:
        """A good answer, or one with choices `missing`."""
        with self._lock:
            self.answered[prompt] += not missing
        reply = verdict if "response_format" in body else self._reply
        samples = body.get("n", 1) if self._honours_n else 1
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": reply(body["messages"], index)},
                "finish_reason": "stop",
            }
            for index in range(samples - missing)
        ]
        prompt_tokens = sum(len(message["content"].split()) for message in body["messages"])
        return {
            "id": f"chatcmpl-{conversation_hash(body['messages'])[:8]}",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": choices,
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": 3 * samples + 1,
                "total_tokens": prompt_tokens + 3 * samples + 1,
            },
        }


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # with 5, a connection among many waits a second


def _handler(server: FaultServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            prompt, fault = server.begin(headers, body)
            try:
                self._act(prompt, body, *fault.partition(":")[::2])
            except OSError:  # the client has gone
                self.close_connection = True

        def _act(self, prompt: str, body: dict[str, Any], fault: str, seconds: str) -> None:
            if fault in ("timeout", "closed"):
                if fault == "timeout":
                    server.closing.wait(float(seconds or 1.5))
                server.end()
                self.close_connection = True
            elif fault == "429":
                self._send(429, _error("slow down"), {"Retry-After": seconds})
            elif fault in ("400", "500"):
                # a server that quotes what it was sent is no rarity
                authorization = self.headers.get("Authorization")
                self._send(int(fault), _error(f"unhappy with {authorization}"))
            elif fault == "invalid-json":
                self._send(200, '{"choices": [')
            elif fault == "html":
                self._send(200, "<html>back soon</html>", content_type="text/html")
            elif fault == "no-choices":
                self._send(200, _error("overloaded"))
            elif fault == "too-few":
                self._send(200, json.dumps(server.answer(prompt, body, missing=1)))
            elif fault == "refused":
                answer = server.answer(prompt, body)
                for choice in answer["choices"]:
                    choice |= {"finish_reason": "content_filter"}
                    choice["message"] |= {"content": None, "refusal": "I will not."}
                self._send(200, json.dumps(answer))
            elif fault == "truncated":
                self._send(200, '{"choices": [', {"Content-Length": "400"})
                self.close_connection = True
            elif fault in BODIES:
                change, _ = BODIES[fault]
                self._send(200, json.dumps(change(server.answer(prompt, body))))
            elif fault in STATUSES:
                status, said, _ = STATUSES[fault]
                moved = {"Location": f"{server.url}/elsewhere"} if status == 307 else {}
                self._send(status, said if isinstance(said, str) else json.dumps(said), moved)
            elif fault in WIRE:
                bytes_of, given, _ = WIRE[fault]
                self._send(200, bytes_of(server.answer(prompt, body)), given)
            elif fault == "drip":  # a byte now and then, so that no read takes long
                self._drip(json.dumps(server.answer(prompt, body)).encode(), float(seconds))
            else:
                assert fault in ("answer", "slow"), fault
                server.closing.wait(float(seconds or 0))
                self._send(200, json.dumps(server.answer(prompt, body)))

        def _drip(self, content: bytes, seconds: float) -> None:
            server.end()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            for place in range(len(content)):
                self.wfile.write(content[place : place + 1])
                self.wfile.flush()
                server.closing.wait(seconds)

        def _send(
            self,
            status: int,
            text: str | bytes,
            headers: dict[str, str] | None = None,
            content_type: str = "application/json",
        ) -> None:
            server.end()  # before the client knows, since its next request may be faster than this
            content = text.encode() if isinstance(text, str) else text
            own = {"Content-Type": content_type, "Content-Length": str(len(content))}
            self.send_response(status)
            for name, value in (own | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    return Handler


def _error(message: str) -> str:
    return json.dumps({"error": {"message": message, "type": "scripted", "code": None}})
