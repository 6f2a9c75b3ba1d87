"""Local servers that take messages for people: a mail server, and one for webhooks, Slack's too."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Mails:
    """A mail server's port, and what it took: recipients and message."""

    port: int = 0
    taken: list[tuple[list[str], EmailMessage]] = field(default_factory=list)


@dataclass
class Posts:
    """A web server's port, and what was posted to it: path, headers and JSON. It answers with `status`."""

    port: int = 0
    status: int = 200
    taken: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)


@contextmanager
def mail_server() -> Iterator[Mails]:
    """A mail server that takes every mail."""
    mails = Mails()

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 ready\r\n")
            to: list[str] = []
            while line := self.rfile.readline():
                word = line.split()[0].upper()
                if word == b"RCPT":
                    to.append(line.decode().partition("<")[2].partition(">")[0])
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    mails.taken.append((to, message_from_bytes(b"".join(lines), policy=policy.default)))  # type: ignore[arg-type]
                self.wfile.write(b"250 ok\r\n")

    with _running(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)) as mails.port:
        yield mails


@contextmanager
def web_server() -> Iterator[Posts]:
    """A web server that takes every POST of JSON."""
    posts = Posts()

    class Session(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            posts.taken.append((self.path, dict(self.headers), body))
            self.send_response(posts.status)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with _running(ThreadingHTTPServer(("127.0.0.1", 0), Session)) as posts.port:
        yield posts


@contextmanager
def _running(server: socketserver.TCPServer) -> Iterator[int]:
    """The port of a server that answers in a thread until the end."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
