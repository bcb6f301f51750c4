"""Fetch pictures from their addresses: parallel, polite, resumable.

    FOLDER/journal.jsonl    one line an address whose state is final
    FOLDER/ab/DIGEST        the bytes that came; the name is the sha256 of the address

A body streams into DIGEST.part. When it is whole its line goes into the journal and then the file
gets its name, so a run that was killed at any moment asks again for nothing that was finished.
States that may pass (a time-out, a busy server) are final for this run only: once every address has
one, the next call tries those again.
"""

import hashlib
import heapq
import itertools
import json
import os
import queue
import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO
from urllib.parse import urljoin, urlsplit

import requests
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from requests.utils import default_user_agent
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    IncompleteRead,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from deepconnotation import __version__
from deepconnotation.console import UserError, alone_in, going_on, one_line, progress
from deepconnotation.data.web import PrivateAddress, Robots, Web

AGENT = "DeepConnotation"
MAX_REDIRECTS = 5
MAX_WAIT = 300.0  # seconds that a host may ask us to wait
PLACEHOLDER_TIMES = 5  # the same bytes from this many addresses are no picture of theirs
FACTS = ("status", "bytes", "seconds")  # of an outcome, for the manifest and rejected.csv
OFFLINE_TIMES = 32  # addresses in a row without any answer: it is our network
CHUNK = 1 << 16

#: Where Flickr and Imgur send those who ask for a picture that is gone. Other hosts' signs
#: are known by their bytes, which come again and again.
PLACEHOLDER_ADDRESS = re.compile(r"/(photo_unavailable[^/]*|removed\.png)$", re.IGNORECASE)
#: MD5 of signs that come without a redirect.
PLACEHOLDER_DIGESTS = {"d835884373f4d6c8f24742ceabe74946": "imgur.com"}
#: What X-Robots-Tag says where the owner does not want pictures taken for training.
OPTED_OUT = {"noai", "noimageai", "noindex", "noimageindex"}

BAD_ADDRESS = (InvalidURL, InvalidSchema, MissingSchema, LocationParseError, UnicodeError)
#: Reason -> whether it may pass, so that another call is worth the try.
REASONS = {
    "gone": False,
    "refused": False,
    "robots": False,
    "placeholder": False,
    "bad_url": False,
    "private_address": False,
    "too_many_redirects": False,
    "too_large": False,
    "too_slow": True,
    "short_body": True,
    "rate_limited": True,
    "server_error": True,
    "no_connection": True,
    "timed_out": True,
    "connection_lost": True,
}


@dataclass(frozen=True)
class Limits:
    """How much is asked of hosts and of this machine.

    Attributes:
        threads: addresses fetched at once.
        per_host: addresses fetched at once from one host.
        connect: seconds to wait for a connection.
        read: seconds to wait for the next bytes.
        total: seconds for one answer from the request to its last byte.
        max_bytes: of one body, decompressed.
        tries: of an address whose state may pass.
        backoff: seconds before the second try; doubles with every further one.
        allow_private_hosts: also ask loopback, private and link-local addresses.
    """

    threads: int = 32
    per_host: int = 8
    connect: float = 10.0
    read: float = 20.0
    total: float = 60.0
    max_bytes: int = 50_000_000
    tries: int = 5
    backoff: float = 1.0
    allow_private_hosts: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of an address.

    Attributes:
        url: the address.
        reason: "" when its bytes are there, else a key of `REASONS`.
        detail: why, in words.
        status: the last HTTP status; 0 when there was no answer.
        bytes: that came with the last answer.
        seconds: the last try took.
        final_url: where redirects led.
        sha256: of the bytes.
    """

    url: str
    reason: str = ""
    detail: str = ""
    status: int = 0
    bytes: int = 0
    seconds: float = 0.0
    final_url: str = ""
    sha256: str = ""


def path_of(folder: str | Path, url: str) -> Path:
    """Return the file that holds an address's bytes once they have come."""
    digest = hashlib.sha256(url.encode()).hexdigest()
    return Path(folder) / digest[:2] / digest


def download(
    urls: Sequence[str], folder: str | Path, limits: Limits, repeated: bool = False
) -> dict[str, Outcome]:
    """Fetch every address once; those with a final state in `folder` are not asked again.

    Args:
        urls: absolute http or https addresses; repeated ones are fetched once.
        folder: gets the bytes and the journal; may hold an interrupted run.
        limits: see `Limits`.
        repeated: take the same bytes from many addresses for a picture, and not for a host's sign.

    Returns:
        The state of each address, in the order of `urls`.

    Raises:
        UserError: when no host can be reached at all, or another process fetches into `folder`.
        OSError: when the disk is full, for example; what has come is kept.
    """
    folder, urls = Path(folder), list(dict.fromkeys(urls))
    with alone_in(folder), going_on():
        journal = folder / "journal.jsonl"
        known = _read_journal(journal, folder)
        todo = [url for url in urls if url not in known]
        with (
            open(journal, "ab", buffering=0) as log,
            progress("addresses", len(urls), len(urls) - len(todo)) as advance,
        ):
            for outcome in _fetch_all(todo, folder, limits, log):
                known[outcome.url] = outcome
                advance(1)
            _finish(log)
    most = len(urls) if repeated else PLACEHOLDER_TIMES - 1
    return _without_placeholders({url: known[url] for url in urls}, most)


def _finish(log: IO[bytes]) -> None:
    """Note that every address had its turn: what may pass is tried again by the next call."""
    log.write(b'\n{"finished": true}\n')


def _read_journal(journal: Path, folder: Path) -> dict[str, Outcome]:
    known: dict[str, Outcome] = {}
    lines = journal.read_bytes().splitlines() if journal.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # empty, or the line that was being written when the run was killed
        if "finished" in record:
            known = {u: o for u, o in known.items() if not REASONS.get(o.reason, False)}
        else:
            known[record["url"]] = Outcome(**record)
    for url in [url for url, outcome in known.items() if not outcome.reason]:
        path = path_of(folder, url)
        if not path.exists():
            try:  # killed between the journal's line and the renaming
                os.replace(f"{path}.part", path)
            except FileNotFoundError:
                del known[url]  # somebody deleted it
    return known


def _without_placeholders(outcomes: dict[str, Outcome], most: int) -> dict[str, Outcome]:
    """Refuse the bytes of known signs, and those that came from more than `most` addresses."""
    signs = {o.sha256 for o in outcomes.values() if o.reason == "placeholder" and o.sha256}
    times = Counter(o.sha256 for o in outcomes.values() if not o.reason)

    def judged(outcome: Outcome) -> Outcome:
        if outcome.reason or not outcome.sha256:
            return outcome
        if outcome.sha256 in signs:
            return replace(outcome, reason="placeholder", detail="the bytes of a host's sign")
        if times[outcome.sha256] > most:
            detail = f"the same bytes came from {times[outcome.sha256]} addresses"
            return replace(outcome, reason="placeholder", detail=detail)
        return outcome

    return {url: judged(outcome) for url, outcome in outcomes.items()}


def _fetch_all(urls: list[str], folder: Path, limits: Limits, log: IO[bytes]) -> Iterator[Outcome]:
    """Yield each address's state, journalled and with its file in place."""
    if not urls:
        return
    turns, results = Turns(urls, limits.per_host), queue.SimpleQueue()
    fetcher = Fetcher(folder, limits)
    arguments = (turns, fetcher, limits, Journal(log, folder), results)
    threads = min(limits.threads, len(urls))
    for _ in range(threads):
        threading.Thread(target=_work, args=arguments, daemon=True).start()
    answered, silent = False, 0
    try:
        for _ in urls:
            outcome = _next(results, fetcher.web)
            if isinstance(outcome, BaseException):
                raise outcome
            answered = answered or outcome.status > 0
            silent += outcome.reason == "no_connection"
            if not answered and silent >= min(OFFLINE_TIMES, len(urls)):
                _finish(log)
                raise UserError(
                    f"no host answers (last: {outcome.url}: {outcome.detail}); connect to the "
                    "network and give the same command again"
                )
            yield outcome
    finally:
        turns.stop()


def _next(results: queue.SimpleQueue, web: Web) -> Outcome | BaseException:
    while True:
        try:
            return results.get_nowait()
        except queue.Empty:
            # Waking for every result would take the interpreter from the threads that work.
            web.enforce()
            time.sleep(0.05)


def _work(
    turns: "Turns", fetcher: "Fetcher", limits: Limits, journal: "Journal",
    results: queue.SimpleQueue,
) -> None:  # fmt: skip
    try:
        while (turn := turns.take()) is not None:
            url, tries = turn
            outcome, wait = fetcher.fetch(url)
            if tries + 1 < limits.tries and _may_pass_soon(outcome, wait):
                pause = limits.backoff * 2**tries * random.uniform(0.5, 1.5)
                turns.later(url, max(wait or 0.0, pause), whole_host=wait is not None)
            else:
                journal.note(outcome)
                turns.done(url)
                results.put(outcome)
    except BaseException as error:  # A full disk, for example: ends the run, not only the thread.
        results.put(error)


def _may_pass_soon(outcome: Outcome, wait: float | None) -> bool:
    if outcome.reason == "too_slow":  # has had its time
        return False
    return REASONS.get(outcome.reason, False) and (wait or 0.0) <= MAX_WAIT


class Journal:
    """Makes states final.

    Threads need no lock: the file is unbuffered and open for appending, so a line is one call of
    the system, which appends it whole.
    """

    def __init__(self, log: IO[bytes], folder: Path):
        self._log = log
        self._folder = folder

    def note(self, outcome: Outcome) -> None:
        """Write the line, then give the bytes their name."""
        line = b"\n" + json.dumps(vars(outcome)).encode() + b"\n"
        self._log.write(line)
        if not outcome.reason:
            path = path_of(self._folder, outcome.url)
            os.replace(f"{path}.part", path)


class Turns:
    """Whose turn it is: addresses of hosts that have a free place and are not to be left alone."""

    def __init__(self, urls: Sequence[str], per_host: int):
        self._per_host = per_host
        self._waiting: dict[str, deque[str]] = {}
        for url in urls:
            self._waiting.setdefault(host_of(url), deque()).append(url)
        self._tries: Counter[str] = Counter()
        self._busy: Counter[str] = Counter()
        self._quiet: dict[str, float] = {}  # host -> when it may be asked again
        self._hosts = deque(self._waiting)  # hosts with something to do and a free place, in turn
        self._offered = set(self._hosts)
        self._timer: list[tuple[float, int, str, str]] = []
        self._count = itertools.count()
        self._left = len(urls)
        self._change = threading.Condition()

    def take(self) -> tuple[str, int] | None:
        """Wait for a turn; return an address and its tries so far, or None when all are done."""
        with self._change:
            while self._left > 0:
                self._ring()
                if self._hosts:
                    return self._start(self._hosts.popleft())
                soon = self._timer[0][0] - time.monotonic() if self._timer else None
                self._change.wait(soon)
            return None

    def later(self, url: str, seconds: float, whole_host: bool) -> None:
        """Give an address another turn after a while; the whole host's, if it asked for that."""
        with self._change:
            host, due = host_of(url), time.monotonic() + seconds
            self._tries[url] += 1
            if whole_host:
                self._quiet[host] = max(due, self._quiet.get(host, 0.0))
            heapq.heappush(self._timer, (due, next(self._count), host, url))
            self._leave(host)

    def done(self, url: str) -> None:
        """Note that an address's state is final."""
        with self._change:
            self._left -= 1
            self._tries.pop(url, None)
            self._leave(host_of(url))
            if self._left == 0:
                self._change.notify_all()

    def stop(self) -> None:
        """Let every thread end after what it is doing."""
        with self._change:
            self._left = 0
            self._change.notify_all()

    def _start(self, host: str) -> tuple[str, int]:
        self._offered.discard(host)
        url = self._waiting[host].popleft()
        self._busy[host] += 1
        self._offer(host)
        return url, self._tries[url]

    def _leave(self, host: str) -> None:
        self._busy[host] -= 1
        self._offer(host)
        self._change.notify()

    def _offer(self, host: str) -> None:
        quiet = self._quiet.get(host, 0.0) > time.monotonic()
        free = self._busy[host] < self._per_host
        if self._waiting[host] and free and not quiet and host not in self._offered:
            self._hosts.append(host)
            self._offered.add(host)

    def _ring(self) -> None:
        """Bring back the addresses whose time has come."""
        while self._timer and self._timer[0][0] <= time.monotonic():
            _, _, host, url = heapq.heappop(self._timer)
            self._waiting[host].appendleft(url)
            self._offer(host)


def host_of(url: str) -> str:
    """Return the host and port of an address; "" where it has none."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""


class Fetcher:
    """Asks for one address at a time; shared by all threads."""

    def __init__(self, folder: Path, limits: Limits):
        agent = f"{AGENT}/{__version__} (research data sets; {default_user_agent()})"
        timeout = (limits.connect, limits.read)
        self._folder = folder
        self._made: set[Path] = set()
        self._limits = limits
        self.web = Web(agent, limits.per_host, timeout, limits.allow_private_hosts)
        self._robots = Robots(self.web, AGENT)

    def fetch(self, url: str) -> tuple[Outcome, float | None]:
        """Try once.

        Returns:
            What came of it, and for how many seconds the host asks to be left alone, if it does.
        """
        started = time.monotonic()
        trace, wait = _Trace(), None
        try:
            with self.web.within(self._limits.total):
                reason, detail, wait = self._follow(url, trace)
        except PrivateAddress as error:
            reason = "private_address"
            detail = f"{error} is no public address; see --allow-private-hosts"
        except BAD_ADDRESS as error:
            reason, detail = "bad_url", _words(error)
        except (requests.RequestException, HTTPError) as error:
            reason, detail = _failure(error)
        except ValueError as error:  # an address that cannot be taken apart
            reason, detail = "bad_url", _words(error)
        seconds = time.monotonic() - started
        if seconds > self._limits.total:  # whatever the cut connection made of it
            reason, detail = "too_slow", f"not done after {self._limits.total:.0f} s"
        if reason and trace.status == 200:
            Path(f"{path_of(self._folder, url)}.part").unlink(missing_ok=True)
        outcome = Outcome(
            url, reason, detail, trace.status, trace.bytes, round(seconds, 3), trace.url,
            trace.sha256,
        )  # fmt: skip
        return outcome, wait

    def _follow(self, url: str, trace: "_Trace") -> tuple[str, str, float | None]:
        """Follow redirects to an answer; return reason, detail and the wait asked for."""
        trace.url = url
        for _ in range(MAX_REDIRECTS + 1):
            if urlsplit(trace.url).scheme not in ("http", "https"):
                return "bad_url", f"{trace.url[:80]!r} is no http or https address", None
            if not self._robots.allow(trace.url):
                return "robots", "the host's robots.txt does not allow it", None
            with self.web.get(trace.url) as response:
                trace.status = response.status_code
                if not response.is_redirect:
                    return self._judge(url, response, trace)
                # What is left unread would cost the connection.
                response.raw.read(CHUNK, decode_content=False)
                trace.url = urljoin(trace.url, response.headers["Location"])
        return "too_many_redirects", f"more than {MAX_REDIRECTS}", None

    def _judge(
        self, url: str, response: requests.Response, trace: "_Trace"
    ) -> tuple[str, str, float | None]:
        status = response.status_code
        detail = f"HTTP {status} {response.reason or ''}".strip()
        if status in (404, 410):
            return "gone", detail, None
        if status in (408, 425, 429) or status >= 500:
            wait = _retry_after(response.headers.get("Retry-After"))
            detail += f", asks to wait {wait:.0f} s" if wait else ""
            return ("rate_limited" if status == 429 else "server_error"), detail, wait
        if status != 200:
            return "refused", detail, None
        tags = {
            word.strip().lower() for word in response.headers.get("X-Robots-Tag", "").split(",")
        }
        if tags & OPTED_OUT:
            return "robots", f"X-Robots-Tag: {', '.join(sorted(tags & OPTED_OUT))}", None
        return *self._store(url, response, trace), None

    def _store(self, url: str, response: requests.Response, trace: "_Trace") -> tuple[str, str]:
        """Stream a body to its part file."""
        limit = self._limits.max_bytes
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and int(length) > limit:
            return "too_large", f"{int(length):,} bytes, more than {limit:,}"
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        path = path_of(self._folder, url)
        if path.parent not in self._made:
            path.parent.mkdir(exist_ok=True)
            self._made.add(path.parent)
        # Buffered: an unbuffered file takes what a full disk has room for, and says nothing.
        with open(f"{path}.part", "wb") as file:
            while chunk := response.raw.read1(CHUNK, decode_content=True):
                trace.bytes += len(chunk)
                if trace.bytes > limit:
                    break
                file.write(chunk)
                sha256.update(chunk)
                md5.update(chunk)
        if trace.bytes > limit:
            os.unlink(f"{path}.part")
            return "too_large", f"more than {limit:,} bytes"
        trace.sha256 = sha256.hexdigest()
        if PLACEHOLDER_ADDRESS.search(urlsplit(trace.url).path):
            return "placeholder", f"redirected to {trace.url}"
        if md5.hexdigest() in PLACEHOLDER_DIGESTS:
            return "placeholder", f"the sign of {PLACEHOLDER_DIGESTS[md5.hexdigest()]}"
        return "", ""


@dataclass
class _Trace:
    """How far a try has come; kept when it fails."""

    url: str = ""
    status: int = 0
    bytes: int = 0
    sha256: str = ""


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date (RFC 9110)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _failure(error: Exception) -> tuple[str, str]:
    """Return the reason and detail of what requests or urllib3 raised."""
    chain = [error]
    while (inner := _inner(chain[-1])) is not None:
        chain.append(inner)
    kinds = tuple(type(e) for e in chain)

    def has(*types: type) -> bool:
        return any(issubclass(kind, types) for kind in kinds)

    if has(requests.HTTPError):
        return "server_error", f"robots.txt: {_words(error)}"
    if has(IncompleteRead, DecodeError):
        return "short_body", _words(chain[-1])
    if has(NewConnectionError, NameResolutionError, ConnectTimeoutError, SSLError):
        return "no_connection", _words(chain[-1])
    if has(ReadTimeoutError):
        return "timed_out", "no further bytes came in time"
    return "connection_lost", _words(chain[-1])


def _inner(error: Exception) -> Exception | None:
    inner = getattr(error, "reason", None)
    candidates = (inner, *error.args)
    return next((e for e in candidates if isinstance(e, Exception) and e is not error), None)


def _words(error: Exception) -> str:
    return (one_line(error).rpartition("): ")[2] or type(error).__name__)[:160]
