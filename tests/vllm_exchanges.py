"""An HTTP server that answers as a vLLM server once did, and one that stands before such a server and notes."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from specbench.testing import STOP_ID

KEY = "the-key-of-the-recording"
PROMPT = tuple(range(5, 25))
STOPS = frozenset({STOP_ID})
UNRECORDED = json.dumps({"error": {"message": "this was never recorded"}}).encode()


def key_of(method, path, question, authorized):
    """What tells requests apart; the salt of a text is random."""
    asked = {name: value for name, value in (question or {}).items() if name != "cache_salt"}
    return method, path, json.dumps(asked, sort_keys=True), authorized


class Listening:
    """A server on loopback in threads of this process."""

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def setup(self):
                super().setup()
                self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def do_GET(self):
                self.exchange(None)

            def do_POST(self):
                self.exchange(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def exchange(self, question):
                outer.asked.append((self.path, question))
                outer.peers.add(self.client_address)
                authorized = self.headers.get("Authorization") == f"Bearer {KEY}"
                status, kind, body = outer.answer(self.command, self.path, question, authorized)
                outer.send(self, status, kind, body)

        self.asked = []
        self.peers = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    def send(self, handler, status, kind, body):
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        if not kind.startswith("text/event-stream"):
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
            return
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for event in body.split(b"\n\n"):
            if event:
                part = event + b"\n\n"
                handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")


class Replay(Listening):
    """Answers exactly what was recorded, and nothing else.

    `change` may return another (status, kind, body) for a recorded one. `cut_after` breaks a stream off behind
    that many events; `silent_s` says nothing for so long behind the first one; `hangs_up` closes every
    connection behind an answer, as servers do with those that idle.
    """

    def __init__(self, path, change=None, cut_after=None, silent_s=0.0, hangs_up=False):
        self._known = {
            key_of(each["method"], each["path"], each["question"], each["authorized"]): (
                each["status"], each["kind"], each["answer"].encode(),
            )
            for each in json.loads(path.read_text())["exchanges"]
        }  # fmt: skip
        self._change, self._cut_after, self._silent_s = change, cut_after, silent_s
        self._hangs_up = hangs_up

    def answer(self, method, path, question, authorized):
        found = self._known.get(key_of(method, path, question, authorized), (599, "text/plain", UNRECORDED))
        return (self._change and self._change(path, question, *found)) or found

    def send(self, handler, status, kind, body):
        if status == 0:  # hang up without a word
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return
        if kind.startswith("text/event-stream") and (self._cut_after is not None or self._silent_s):
            events = body.split(b"\n\n")
            first = b"\n\n".join(events[: self._cut_after or 1]) + b"\n\n"
            handler.send_response(status)
            handler.send_header("Content-Type", kind)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(f"{len(first):x}\r\n".encode() + first + b"\r\n")
            handler.wfile.flush()
            time.sleep(self._silent_s)
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return
        super().send(handler, status, kind, body)
        handler.close_connection = self._hangs_up


class Recorder(Listening):
    """Hands everything to the server at `upstream`, and notes both sides."""

    def __init__(self, upstream):
        self._upstream, self._kept, self._lock = upstream, {}, threading.Lock()

    def answer(self, method, path, question, authorized):
        body = None if question is None else json.dumps(question).encode()
        headers = {"Content-Type": "application/json"}
        if authorized:
            headers["Authorization"] = f"Bearer {KEY}"
        try:
            response = urllib.request.urlopen(urllib.request.Request(self._upstream + path, body, headers))
        except urllib.error.HTTPError as error:
            response = error
        found = response.status, response.headers.get("Content-Type", ""), response.read()
        with self._lock:
            self._kept[key_of(method, path, question, authorized)] = {
                "method": method,
                "path": path,
                "question": question and {k: v for k, v in question.items() if k != "cache_salt"},
                "authorized": authorized,
                "status": found[0],
                "kind": found[1],
                "answer": scrubbed(found[2].decode()),
            }
        return found

    def save(self, path):
        exchanges = [self._kept[key] for key in sorted(self._kept)]
        lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in exchanges)
        path.write_text(f'{{"exchanges": [\n{lines}\n]}}\n')


def scrubbed(text):
    """An answer without what names the machine, the moment, or the request."""
    if text.startswith("data:"):
        return "".join(
            f"data: {event if event == '[DONE]' else scrubbed(event)}\n\n"
            for event in (part.removeprefix("data:").strip() for part in text.split("\n\n"))
            if event
        )
    try:
        document = json.loads(text)
    except ValueError:
        return text
    if isinstance(document, dict):
        for part in [document, *(document.get("data") or [])]:
            part.update({name: 0 for name in ("created",) if name in part})
            part.pop("permission", None)
            if "root" in part:
                part["root"] = "tiny"
            if document.get("object") == "text_completion" and "id" in part:
                part["id"] = "cmpl-0"
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def alone(target, request):
    commit = target.begin(request)
    tokens = list(commit.tokens)
    if commit.finish_reason is None:
        tokens += [token for part in target.decode() for token in part.tokens]
    return tuple(tokens)


def completions(asked):
    return [question for path, question in asked if path == "/v1/completions"]


def changing(path, change):
    """A change of the answers at a path: `change` gets the document, and returns or alters it."""

    def altered(at, question, status, kind, body):
        if at != path or not kind.startswith("application/json"):
            return None
        document = json.loads(body)
        return status, kind, json.dumps(change(document, question) or document).encode()

    return altered
