"""A picture host on 127.0.0.1 with every habit that hosts have."""

import gzip
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pictures
from PIL import Image


class Host(ThreadingHTTPServer):
    """Counts what it is asked and what it has answered in full, by path."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str = "127.0.0.1"):
        super().__init__((address, 0), Handler)
        self.asked, self.answered = Counter(), Counter()
        self.at_once, self.most_at_once = 0, 0
        self.times: dict[str, list[float]] = {}
        self.agents = set()
        self.lock = threading.Lock()
        self.slow = 0.0  # seconds before each answer
        self.robots = (200, b"User-agent: *\nDisallow: /forbidden\n")
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request, client_address):
        pass  # clients that were killed


BOMB = gzip.compress(bytes(20_000_000))


def picture(number: int) -> bytes:
    """A small picture, another one for every number."""
    rng = np.random.default_rng(number)
    return pictures.jpeg(Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server = self.server
        with server.lock:
            server.asked[self.path] += 1
            server.times.setdefault(self.path, []).append(time.monotonic())
            server.agents.add(self.headers["User-Agent"])
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            time.sleep(server.slow)
            kind, _, rest = self.path.partition("?")[0].strip("/").partition("/")
            getattr(self, f"kind_{kind.replace('.', '_')}", self.kind_missing)(rest)
            with server.lock:
                server.answered[self.path] += 1
        except OSError:
            self.close_connection = True
        finally:
            with server.lock:
                server.at_once -= 1

    def answer(self, status: int, body: bytes = b"", **headers: str):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def kind_missing(self, rest: str):
        self.answer(404, b"no")

    def kind_robots_txt(self, rest: str):
        self.answer(*self.server.robots)

    kind_forbidden = kind_missing

    def kind_ok(self, rest: str):
        self.answer(200, picture(int(rest.split("/")[-1])))

    def kind_status(self, rest: str):
        self.answer(int(rest), b"sorry")

    def kind_chain(self, rest: str):
        """As many redirects as the number says, then a picture."""
        left = int(rest)
        self.answer(301 if left else 200, b"" if left else picture(1000),
                    **({"Location": f"/chain/{left - 1}"} if left else {}))  # fmt: skip

    def kind_loop(self, rest: str):
        self.answer(302, Location="/loop")

    def kind_to(self, rest: str):
        """A redirect to whatever the rest is."""
        self.answer(301, Location=rest)

    def kind_busy(self, rest: str):
        """429 with Retry-After the first time."""
        if self.server.asked[self.path] == 1:
            self.answer(429, b"slow down", Retry_After=rest.split("/")[0])
        else:
            self.answer(200, picture(2000))

    def kind_later(self, rest: str):
        """503 the first two times."""
        if self.server.asked[self.path] <= 2:
            self.answer(503, b"later")
        else:
            self.answer(200, picture(3000 + int(rest)))

    def kind_reset(self, rest: str):
        """A connection that is reset, always or only the first time."""
        if rest == "always" or self.server.asked[self.path] == 1:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            raise ConnectionResetError
        self.answer(200, picture(4000))

    def kind_drip(self, rest: str):
        """A byte now and then, in the head or in the body."""
        if rest == "body":
            self.send_response(200)
            self.end_headers()
        for _ in range(2000):
            self.wfile.write(b"H" if rest == "head" else b"x")
            self.wfile.flush()
            time.sleep(0.05)

    def kind_endless(self, rest: str):
        self.send_response(200)
        if rest == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            self.wfile.write((b"10000\r\n" if rest == "chunked" else b"") + bytes(65536) + b"\r\n")

    def kind_bomb(self, rest: str):
        """A few kilobytes that are 20 MB once they are decompressed."""
        self.answer(200, BOMB, Content_Encoding="gzip")

    def kind_short(self, rest: str):
        """Fewer bytes than announced."""
        body = picture(5000)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + 100))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def kind_long(self, rest: str):
        """More bytes than announced: what is announced is no whole picture."""
        body = picture(6000)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) // 2))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def kind_silent(self, rest: str):
        time.sleep(60)

    def kind_html(self, rest: str):
        page = f"<!DOCTYPE html><html><body>Sign in to see {self.path}</body></html>"
        self.answer(200, page.encode())

    def kind_gzip(self, rest: str):
        self.answer(200, gzip.compress(picture(7000)), Content_Encoding="gzip")

    def kind_broken_gzip(self, rest: str):
        self.answer(200, b"this is not gzip", Content_Encoding="gzip")

    def kind_optout(self, rest: str):
        self.answer(200, picture(8000), X_Robots_Tag="noai")

    def kind_sign(self, rest: str):
        """The host's sign, without a redirect."""
        self.answer(200, picture(9000))

    def kind_photo_unavailable_png(self, rest: str):
        self.answer(200, picture(9000))
