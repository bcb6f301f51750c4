"""A picture host on 127.0.0.1 for benchmarks: an answer costs it little, and may be late.

    python benchmarks/host.py FOLDER [LATENCY]

Serves /N/NAME as FOLDER/NAME for any N, after LATENCY seconds. Prints its port.
"""

import asyncio
import sys
from pathlib import Path


class Host(asyncio.Protocol):
    def __init__(self, bodies: dict[bytes, bytes], latency: float):
        self.bodies, self.latency, self.buffer = bodies, latency, b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head, self.buffer = self.buffer[:end], self.buffer[end + 4 :]
            name = head.split(b" ", 2)[1].rsplit(b"/", 1)[-1]
            body = self.bodies.get(name)
            status = b"404 Not Found" if body is None else b"200 OK"
            kind = b"Content-Type: image/jpeg\r\n"
            length = b"Content-Length: %d\r\n\r\n" % len(body or b"")
            answer = b"HTTP/1.1 " + status + b"\r\n" + kind + length + (body or b"")
            if self.latency:
                asyncio.get_running_loop().call_later(self.latency, self.transport.write, answer)
            else:
                self.transport.write(answer)


async def serve(folder: Path, latency: float) -> None:
    bodies = {p.name.encode(): p.read_bytes() for p in folder.iterdir()}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Host(bodies, latency), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
