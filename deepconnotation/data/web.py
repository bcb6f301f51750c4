"""HTTP for `download`: a time limit for the whole answer, public addresses only, robots.txt."""

import contextlib
import functools
import ipaddress
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.robotparser import RobotFileParser

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

MAX_ROBOTS = 500_000  # bytes of a robots.txt that are read (RFC 9309)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class PrivateAddress(Exception):
    """A host that resolves to this machine or its network; the text is its address."""


def is_private(address: str) -> bool:
    """Tell whether an IP address is anything but public: loopback, private, link-local, ..."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.ip_address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    return not ip.is_global or ip.is_multicast


class Web:
    """GET requests of many threads over shared connections.

    Time-outs of sockets bound only the wait for the next bytes; a host that sends a byte now and
    then would hold a thread for ever. So a thread asks `within` a time, and `enforce`, called by
    another thread again and again, cuts the connections that are beyond theirs.

    Args:
        agent: the User-Agent.
        per_host: connections kept open to one host.
        timeout: seconds for the connection, and between two pieces of an answer.
        allow_private: also connect to private addresses. Checked before a connection is made, and
            again when it is, for a name may resolve differently the next moment; where a proxy of
            the environment makes the connection, the check is the proxy's.
    """

    def __init__(
        self, agent: str, per_host: int, timeout: tuple[float, float], allow_private: bool
    ):
        self._timeout = timeout
        self._allow_private = allow_private
        self._due: dict[int, tuple[float, socket.socket | None]] = {}
        self._session = requests.Session()
        self._session.trust_env = False  # reading it for every request is slow; see _proxies
        self._session.headers.update({"User-Agent": agent, "Accept": "image/*,*/*;q=0.5"})
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(self, per_host))

    def get(self, url: str) -> requests.Response:
        """Send a request; return the answer with its body still to be read.

        Raises:
            PrivateAddress: see the class.
            requests.RequestException: as requests does.
        """
        # What Session.get does beside, cookies, credentials and hooks, is not wanted here, and
        # would double the cost of a small picture.
        request = requests.PreparedRequest()
        request.prepare_method("GET")
        request.prepare_url(url, None)
        request.headers = self._session.headers
        parts = urlsplit(request.url)
        return self._session.get_adapter(request.url).send(
            request, stream=True, timeout=self._timeout,
            proxies=_proxies(parts.scheme, parts.netloc),
        )  # fmt: skip

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Bound what this thread does inside to a time."""
        thread = threading.get_ident()
        self._due[thread] = (time.monotonic() + seconds, None)
        try:
            yield
        finally:
            del self._due[thread]

    def enforce(self) -> None:
        """Cut the connections of threads whose time is over."""
        now = time.monotonic()
        for due, connection in list(self._due.values()):
            if connection is not None and now > due:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def watch(self, connection: socket.socket) -> None:
        """Note what this thread waits for."""
        thread = threading.get_ident()
        if thread in self._due:
            self._due[thread] = (self._due[thread][0], connection)

    def check_name(self, host: str, port: int) -> None:
        """Refuse a host one of whose addresses is private, before anything is sent there."""
        if self._allow_private:
            return
        with contextlib.suppress(OSError):  # no such name: the connection will say so
            for *_, (address, *_) in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                if is_private(address):
                    raise PrivateAddress(address)

    def check_peer(self, connection: socket.socket) -> None:
        """Refuse a connection that leads to a private address after all."""
        address = connection.getpeername()[0]
        if not self._allow_private and is_private(address):
            connection.close()
            raise PrivateAddress(address)


@functools.lru_cache(maxsize=10_000)
def _proxies(scheme: str, host: str) -> dict[str, str]:
    return get_environ_proxies(f"{scheme}://{host}/", None)


class _Adapter(HTTPAdapter):
    """Makes connections that a `Web` watches and checks."""

    def __init__(self, web: Web, per_host: int):
        self._pools = {
            "http": _guarded(HTTPConnectionPool, web), "https": _guarded(HTTPSConnectionPool, web)
        }  # fmt: skip
        super().__init__(pool_connections=100, pool_maxsize=per_host)

    def init_poolmanager(self, *arguments, **options) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments, **options):
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _guarded(pool: type[HTTPConnectionPool], web: Web) -> type[HTTPConnectionPool]:
    class Connection(pool.ConnectionCls):
        def _new_conn(self) -> socket.socket:
            if self.proxy is not None:
                return super()._new_conn()
            web.check_name(self._dns_host, self.port)
            connection = super()._new_conn()
            web.check_peer(connection)
            return connection

        def getresponse(self):
            web.watch(self.sock)
            return super().getresponse()

    return type("GuardedPool", (pool,), {"ConnectionCls": Connection})


class Robots:
    """What hosts' robots.txt allow (RFC 9309); each is read once.

    Args:
        web: asks for the files.
        agent: our name there.
    """

    def __init__(self, web: Web, agent: str):
        self._web = web
        self._agent = agent
        self._rules: dict[str, RobotFileParser | None] = {}
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def allow(self, url: str) -> bool:
        """Tell whether an address may be fetched.

        Raises:
            requests.RequestException: when the host cannot say; it is to be asked later.
        """
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        with self._locks[origin]:
            if origin not in self._rules:
                self._rules[origin] = self._read(f"{origin}/robots.txt")
        rules = self._rules[origin]
        return rules is None or rules.can_fetch(self._agent, url)

    def _read(self, url: str) -> RobotFileParser | None:
        with self._web.get(url) as response:
            if response.status_code >= 500 or response.status_code == 429:
                response.raise_for_status()
            if response.status_code != 200:
                return None
            text = response.raw.read(MAX_ROBOTS, decode_content=True).decode("utf-8", "replace")
        parser = RobotFileParser()
        parser.parse(text.splitlines())
        return parser
