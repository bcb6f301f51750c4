"""Downloading from a local host with every habit that hosts have."""

import fcntl
import json
import os
import pty
import random
import select
import signal
import subprocess
import sys
import termios
import time

import pytest
import server
from tools import files_of_at_most

from deepconnotation.console import UserError, alone_in
from deepconnotation.data import download, web
from deepconnotation.data.download import Limits, path_of
from deepconnotation.data.web import is_private

LIMITS = Limits(
    threads=8, per_host=8, connect=2, read=0.5, total=1.5, max_bytes=2_000_000, tries=3,
    backoff=0.02, allow_private_hosts=True,
)  # fmt: skip


@pytest.fixture()
def host():
    made = server.Host()
    yield made
    made.shutdown()
    made.server_close()


def test_every_habit_ends_in_its_state(host, tmp_path):
    expected = {
        "/ok/1": ("", 200, 1),
        "/chain/5": ("", 200, 2),  # once on the way from /chain/6
        "/chain/6": ("too_many_redirects", 301, 1),
        "/loop": ("too_many_redirects", 302, 6),
        "/status/404": ("gone", 404, 1),
        "/status/410": ("gone", 410, 1),
        "/status/403": ("refused", 403, 1),
        "/status/204": ("refused", 204, 1),
        "/status/429": ("rate_limited", 429, 3),
        "/status/500": ("server_error", 500, 3),
        "/later/1": ("", 200, 3),
        "/reset/once": ("", 200, 2),
        "/reset/always": ("connection_lost", 0, 3),
        "/drip/head": ("too_slow", 0, 1),
        "/drip/body": ("too_slow", 200, 1),
        "/endless/plain": ("too_large", 200, 1),
        "/endless/chunked": ("too_large", 200, 1),
        "/bomb": ("too_large", 200, 1),
        "/short": ("short_body", 200, 3),
        "/broken_gzip": ("short_body", 200, 3),
        "/silent": ("timed_out", 0, 3),
        "/html": ("", 200, 1),  # a web page is refused by what it is, when it is decoded
        "/long": ("", 200, 1),  # and so is half a picture
        "/gzip": ("", 200, 1),
        "/forbidden/1": ("robots", 0, 0),
        "/to//forbidden/1": ("robots", 301, 1),
        "/optout": ("robots", 200, 1),
        "/to//photo_unavailable.png": ("placeholder", 200, 1),
        "/sign/1": ("placeholder", 200, 1),
        "/to/ftp://example.com/x": ("bad_url", 301, 1),
        "/to/file:///etc/passwd": ("bad_url", 301, 1),
    }
    urls = [host.url(path) for path in expected]
    found = download.download(urls + urls[:5], tmp_path, LIMITS)
    for path, (reason, status, asked) in expected.items():
        outcome = found[host.url(path)]
        assert (path, outcome.reason, outcome.status) == (path, reason, status), outcome
        assert host.asked[path] == asked, path
        assert outcome.detail or not reason
        assert path_of(tmp_path, outcome.url).exists() == (not reason or path == "/sign/1")
    assert path_of(tmp_path, host.url("/ok/1")).read_bytes() == server.picture(1)
    assert path_of(tmp_path, host.url("/gzip")).read_bytes() == server.picture(7000)
    assert found[host.url("/gzip")].bytes == len(server.picture(7000))
    assert found[host.url("/chain/5")].final_url == host.url("/chain/0")
    assert found[host.url("/drip/body")].seconds >= LIMITS.total  # others may round to 0
    assert not list(tmp_path.rglob("*.part"))
    assert all(agent.startswith("DeepConnotation/") for agent in host.agents)


def test_a_second_call_asks_only_for_what_may_pass(host, tmp_path):
    paths = ["/ok/1", "/status/404", "/status/500", "/to//photo_unavailable.png"]
    urls = [host.url(path) for path in paths]
    first = download.download(urls, tmp_path, LIMITS)
    before = dict(host.asked)
    second = download.download(urls, tmp_path, LIMITS)
    assert [o.reason for o in first.values()] == [o.reason for o in second.values()]
    again = {path: host.asked[path] - before[path] for path in paths}
    assert again == {"/ok/1": 0, "/status/404": 0, "/status/500": 3, paths[3]: 0}
    path_of(tmp_path, urls[0]).unlink()
    assert not download.download(urls[:1], tmp_path, LIMITS)[urls[0]].reason
    assert path_of(tmp_path, urls[0]).read_bytes() == server.picture(1)


def test_a_picture_that_a_full_disk_cuts_short_is_fetched_again(host, tmp_path):
    url = host.url("/ok/1")
    with files_of_at_most(len(server.picture(1)) - 1), pytest.raises(OSError, match="too large"):
        download.download([url], tmp_path, LIMITS)
    assert not path_of(tmp_path, url).exists()
    download.download([url], tmp_path, LIMITS)
    assert path_of(tmp_path, url).read_bytes() == server.picture(1)


def test_retry_after_is_honoured_for_the_whole_host(host, tmp_path):
    urls = [host.url(p) for p in ("/busy/1/a", *(f"/ok/{i}" for i in range(20)))]
    limits = Limits(threads=1, per_host=1, backoff=0.01, allow_private_hosts=True)
    found = download.download(urls, tmp_path, limits)
    assert not any(o.reason for o in found.values())
    first, second = host.times["/busy/1/a"]
    assert second - first >= 1
    assert all(times[0] - first >= 1 for path, times in host.times.items() if "/ok/" in path)
    far = host.url("/busy/86400/b")
    outcome = download.download([far], tmp_path, limits)[far]
    assert outcome.reason == "rate_limited" and "86400 s" in outcome.detail
    assert host.asked["/busy/86400/b"] == 1


def test_dates_of_retry_after():
    assert download._retry_after("120") == 120
    assert download._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert download._retry_after("soon") is None and download._retry_after(None) is None


def test_limit_a_host(host, tmp_path):
    host.slow = 0.05
    urls = [host.url(f"/ok/{i}") for i in range(40)]
    limits = Limits(threads=20, per_host=3, allow_private_hosts=True)
    download.download(urls, tmp_path, limits)
    assert host.most_at_once == 3


def test_a_busy_host_does_not_hold_up_another(tmp_path):
    slow, quick = server.Host(), server.Host()
    slow.slow = 0.1
    urls = [slow.url(f"/ok/{i}") for i in range(10)] + [quick.url(f"/ok/{i}") for i in range(10)]
    limits = Limits(threads=4, per_host=2, allow_private_hosts=True)
    order = list(json.loads(line)["url"] for line in _journal_after(urls, tmp_path, limits))
    assert all(str(quick.server_port) in url for url in order[:6])
    slow.shutdown(), quick.shutdown()


def _journal_after(urls, folder, limits):
    download.download(urls, folder, limits)
    lines = (folder / "journal.jsonl").read_bytes().splitlines()
    return [line for line in lines if b'"url"' in line]


def test_the_same_bytes_from_many_addresses_are_a_sign(host, tmp_path):
    urls = [host.url(f"/sign/{i}") for i in range(5)] + [host.url(f"/ok/7/{i}/7") for i in range(4)]
    found = list(download.download(urls, tmp_path, LIMITS).values())
    assert [o.reason for o in found] == ["placeholder"] * 5 + [""] * 4
    assert found[0].detail == "the same bytes came from 5 addresses"


def test_private_hosts_are_refused_before_anything_is_sent(host, tmp_path):
    urls = [host.url("/ok/1"), f"http://localhost:{host.server_port}/ok/2", "http://127.0.0.1:9/"]
    found = download.download(urls, tmp_path, Limits(tries=1))
    assert [o.reason for o in found.values()] == ["private_address"] * 3
    assert not host.asked


def test_a_name_that_resolves_differently_the_next_moment(host, tmp_path, monkeypatch):
    """The connection's own address counts, whatever the name was said to be."""
    monkeypatch.setattr(web.Web, "check_name", lambda *_: None)
    url = host.url("/ok/1")
    assert download.download([url], tmp_path, Limits())[url].reason == "private_address"
    assert not host.asked


def test_addresses_that_cannot_be_asked(tmp_path):
    bad = [
        "ftp://example.com/a.jpg",
        "nonsense",
        "http://",
        "http://[::1",
        "http://a..b/",
        "http://*/",
    ]
    found = download.download(bad, tmp_path, Limits(tries=1))
    assert {o.reason for o in found.values()} == {"bad_url"}, found


def test_a_redirect_to_a_private_address_is_refused(tmp_path, monkeypatch):
    """127.0.0.1 plays a public host here and 127.0.0.2 a private one."""
    everywhere = server.Host("0.0.0.0")
    monkeypatch.setattr(web, "is_private", lambda address: address == "127.0.0.2")
    urls = [everywhere.url(f"/to/http://127.0.0.2:{everywhere.server_port}/ok/1"),
            everywhere.url("/ok/2")]  # fmt: skip
    found = list(download.download(urls, tmp_path, Limits()).values())
    assert [o.reason for o in found] == ["private_address", ""]
    assert "127.0.0.2 is no public address" in found[0].detail
    assert "/ok/1" not in everywhere.asked
    everywhere.shutdown(), everywhere.server_close()


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("192.168.0.1", True), ("172.20.0.1", True),
        ("169.254.169.254", True), ("0.0.0.0", True), ("224.0.0.1", True), ("100.64.0.1", True),
        ("::1", True), ("fe80::1%eth0", True), ("fc00::1", True), ("::ffff:127.0.0.1", True),
        ("64:ff9b::a00:1", True), ("2002:7f00:1::", True),
        ("8.8.8.8", False), ("2001:4860:4860::8888", False), ("64:ff9b::808:808", False),
    ],
)  # fmt: skip
def test_private_addresses(address, private):
    assert is_private(address) is private


def test_no_network_is_one_error_and_another_call_tries_again(host, tmp_path):
    free = server.Host()
    port = free.server_port
    free.shutdown(), free.server_close()
    urls = [f"http://127.0.0.1:{port}/{i}" for i in range(40)]
    with pytest.raises(
        UserError, match="no host answers .*Connection refused.*connect to the netw"
    ):
        download.download(urls, tmp_path, LIMITS)
    found = download.download([host.url("/ok/1"), *urls[:3]], tmp_path, LIMITS)
    assert [o.reason for o in found.values()] == ["", *["no_connection"] * 3]


def test_a_full_disk_ends_the_run_and_keeps_what_came(host, tmp_path, monkeypatch):
    real, calls = os.replace, []

    def full(a, b):
        calls.append(b)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(a, b)

    monkeypatch.setattr(download.os, "replace", full)
    urls = [host.url(f"/ok/{i}") for i in range(10)]
    with pytest.raises(OSError, match="No space"):
        download.download(urls, tmp_path, LIMITS)
    monkeypatch.undo()
    assert not any(o.reason for o in download.download(urls, tmp_path, LIMITS).values())


@pytest.mark.parametrize(
    ("robots", "reasons"),
    [
        ((404, b"User-agent: *\nDisallow: /"), ["", ""]),  # none: all is allowed (RFC 9309)
        ((503, b""), ["server_error"] * 2),  # it cannot be told, so nothing is fetched
        ((200, b"User-agent: DeepConnotation\nDisallow: /ok/1"), ["robots", ""]),
        ((200, b"User-agent: other\nDisallow: /"), ["", ""]),
        ((200, b"\xff\xfe\x00 <html>"), ["", ""]),
    ],
)
def test_robots(host, tmp_path, robots, reasons):
    host.robots = robots
    urls = [host.url("/ok/1"), host.url("/ok/2")]
    found = download.download(urls, tmp_path, LIMITS)
    assert [o.reason for o in found.values()] == reasons
    assert set(host.asked) - {"/robots.txt"} == {
        f"/ok/{i}" for i, reason in enumerate(reasons, start=1) if not reason
    }


PROGRAM = """
import sys
from deepconnotation.data import download, web
limits = download.Limits(threads=8, backoff=0.01, allow_private_hosts=True)
urls = open(sys.argv[1]).read().split()
download.download(urls, sys.argv[2], limits)
"""


def test_ten_kills_lose_nothing_and_fetch_nothing_twice(host, tmp_path):
    host.slow = 0.004
    paths = [f"/ok/{i}" for i in range(700)] + [f"/later/{i}" for i in range(20)]
    paths += [f"/status/404?{i}" for i in range(20)]
    (tmp_path / "urls").write_text("\n".join(map(host.url, paths)))
    command = [sys.executable, "-c", PROGRAM, tmp_path / "urls", tmp_path / "got"]
    journal, rng = tmp_path / "got/journal.jsonl", random.Random(0)
    kills, finished = 0, {}
    while kills < 10:
        job = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        before = len(finished)
        goal = before + rng.randrange(10, 60)
        while job.poll() is None and _lines(journal) < goal:
            time.sleep(0.001)
        assert job.poll() is None, "it ended before it could be killed"
        job.send_signal(signal.SIGKILL)
        job.wait()
        kills += 1
        time.sleep(0.05)  # answers under way
        asked = dict(host.asked)
        for path in finished:
            assert asked[path] == finished[path], f"{path} was asked again"
        finished = {u: asked[u] for u in _finished(journal, host)}
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    for path in finished:
        assert host.asked[path] == finished[path]
    for i in range(700):
        assert path_of(tmp_path / "got", host.url(f"/ok/{i}")).read_bytes() == server.picture(i)
    # What was under way at a kill is asked for again, at most one a thread; nothing else is.
    extra = sum(host.asked[f"/ok/{i}"] - 1 for i in range(700))
    assert extra <= 10 * 8
    last = [o for o in _journal_records(journal)]
    assert len({r["url"] for r in last}) == len(last) == len(paths)


def test_two_that_fetch_into_one_folder_are_refused(host, tmp_path):
    with alone_in(tmp_path), pytest.raises(UserError, match="another process is at work there"):
        download.download([host.url("/ok/1")], tmp_path, LIMITS)
    assert not host.asked


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_ctrl_c_keeps_what_came(host, tmp_path, sent):
    command = _slow_command(host, tmp_path)
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while _lines(tmp_path / "got/journal.jsonl") < 50:
        time.sleep(0.005)
    job.send_signal(sent)
    _, err = job.communicate(timeout=20)
    assert job.returncode == 130 and "the same command goes on" in err and "Traceback" not in err
    before = sum(host.asked.values())
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert sum(host.asked.values()) - before <= 300 - 50 + 8 + 1


@pytest.mark.parametrize("how", ["in front", "nohup", "in the background"])
def test_a_terminal_that_goes_away_keeps_what_came(host, tmp_path, how):
    """Only the first is told by a signal, and ends; the last has a shell that was left before."""
    command = [*["nohup"] * (how == "nohup"), *_slow_command(host, tmp_path)]
    terminal, screen = pty.openpty()

    def take_terminal():
        if how != "in the background":
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    job = subprocess.Popen(
        command, stdin=screen, stdout=screen, stderr=screen, start_new_session=True, cwd=tmp_path,
        preexec_fn=take_terminal,
    )  # fmt: skip
    while _lines(tmp_path / "got/journal.jsonl") < 50:
        if select.select([terminal], [], [], 0.005)[0]:
            os.read(terminal, 65536)  # a full terminal would hold the command up
    os.close(terminal)
    os.close(screen)
    assert job.wait(timeout=20) == (130 if how == "in front" else 0)
    came = _lines(tmp_path / "got/journal.jsonl")
    assert 50 <= came < 300 if how == "in front" else came == 300


def _slow_command(host, folder):
    """The command that fetches 300 pictures into the folder `got`."""
    host.slow = 0.02
    (folder / "urls").write_text("\n".join(host.url(f"/ok/{i}") for i in range(300)))
    program = f"from deepconnotation.console import run_command\ndef main():{PROGRAM}".replace(
        "\n", "\n    "
    ).replace("    def main", "def main")
    return [sys.executable, "-c", f"{program}\nrun_command(main)", folder / "urls", folder / "got"]


def _lines(journal):
    return journal.read_bytes().count(b'"url"') if journal.exists() else 0


def _journal_records(journal):
    for line in journal.read_bytes().splitlines():
        if b'"url"' in line:
            yield json.loads(line)


def _finished(journal, host):
    prefix = host.url("")
    return [r["url"].removeprefix(prefix) for r in _journal_records(journal)]
