"""Pages in a real browser: the demo's, which may talk to this machine alone, and the report."""

import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image
from tools import command

from deepconnotation.data.sources import toy

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not find_spec("gradio"):  # looked for, not imported: that takes seconds
    pytest.skip("the extra [demo] is not installed", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if not CHROMIUM:
    pytest.skip("no chromium on this machine (Debian: apt install chromium)",
                allow_module_level=True)  # fmt: skip
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run"]  # fmt: skip
SHOTS = os.environ.get("DEEPCONNOTATION_SHOTS")  # a folder for screenshots, to be looked at


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def address(toy_run, tmp_path_factory):
    """The page of the toy run, in a process of its own."""
    port, temp = free_port(), tmp_path_factory.mktemp("uploads")
    words = [sys.executable, "-m", "deepconnotation.demo", str(toy_run.path), "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "TMPDIR": str(temp)})  # fmt: skip
    assert f"http://127.0.0.1:{port}" in process.stdout.readline()
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)  # as `docker stop` does
    assert process.wait(timeout=60) == 130
    assert not list(temp.glob("deepconnotation-demo-*"))  # nothing is kept


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        made = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def page(request, browser, address):
    """A new page; whatever it asks of other machines is refused and noted."""
    made = browser.new_page(viewport={"width": request.param, "height": 900})
    made.strangers = []

    def route(each):
        if each.request.url.startswith((address, "data:", "blob:")):
            each.continue_()
        else:
            made.strangers.append(each.request.url)
            each.abort()

    made.route("**/*", route)
    made.set_default_timeout(30_000)
    made.goto(address)
    made.locator("#why").wait_for()
    yield made
    if SHOTS:
        name = request.node.name.replace("[", "-").rstrip("]")
        made.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)
    assert made.strangers == []
    assert made.evaluate("document.documentElement.scrollWidth") <= request.param
    made.close()


#: what does not depend on the screen
on_a_desktop = pytest.mark.parametrize("page", [1280], ids=["desktop"], indirect=True)


def drawn(folder: Path, emotion: str) -> Path:
    path = folder / f"{emotion}.png"
    Image.fromarray(toy.draw(emotion, 7, 96)).save(path)
    return path


def test_a_picture_is_answered_and_explained(page, toy_run, tmp_path):
    path = tmp_path / "awe.tif"  # which no browser of today shows by itself
    Image.open(drawn(tmp_path, "awe")).save(path)
    page.locator("#picture input[type=file]").set_input_files(path)
    answer = page.locator("#answer h3")
    answer.wait_for()
    page.wait_for_function("document.querySelector('#picture img').naturalWidth == 96")
    told = command("predict", toy_run.path, path, "--csv").stdout.splitlines()
    (row,) = csv.DictReader(told)
    assert answer.inner_text() == f"{row['label']}, {100 * float(row['confidence']):.0f} %"
    bars = page.locator("#bars").inner_text()
    assert all(name in bars for name in toy_run.classes)
    page.locator("#why").click()
    page.locator("#heatmap img").wait_for()


@on_a_desktop
def test_a_bad_file_is_answered_kindly(page, tmp_path):
    path = tmp_path / "broken.png"
    cut = drawn(tmp_path, "fear").read_bytes()[:300]
    for content, reason in ((cut, "truncated"), (b"<html>", "html")):
        path.write_bytes(content)
        page.locator("#picture input[type=file]").set_input_files(path)
        page.get_by_text(f"This cannot be answered: {reason}").wait_for()
        page.locator("#picture button[aria-label='Remove Image']").first.click()
    page.locator("#picture input[type=file]").set_input_files(drawn(tmp_path, "fear"))
    page.locator("#answer h3").wait_for()  # and goes on


def test_several_pictures_become_a_gallery_and_a_table(page, tmp_path):
    paths = [drawn(tmp_path, name) for name in ("awe", "fear", "anger")]
    paths[1] = paths[1].with_suffix(".tif")
    Image.open(paths[1].with_suffix(".png")).save(paths[1])
    paths[2].write_bytes(b"<html>")
    page.get_by_role("tab", name="Several").click()
    page.locator("#files input[type=file]").set_input_files(paths)
    page.get_by_text("2 of 3 pictures answered.").wait_for()
    page.locator("#gallery img").nth(1).wait_for()
    page.wait_for_function("""() => [...document.querySelectorAll("#gallery img")].every(
        image => image.complete && image.naturalWidth > 0)""")
    cut = """all => all.filter(one => one.scrollWidth > one.clientWidth).length"""
    assert page.locator("#gallery .caption-label").evaluate_all(cut) == 0
    with page.expect_download() as download:
        page.locator("#download").click()
    rows = list(csv.DictReader(download.value.path().read_text("utf-8").splitlines()))
    assert [row["file"] for row in rows] == ["awe.png", "fear.tif", "anger.png"]
    assert rows[0]["answer"] and "web page" in rows[2]["remark"]


@on_a_desktop
def test_the_keyboard_reaches_everything(page):
    page.keyboard.press("Tab")
    seen = set()
    for _ in range(40):
        seen.add(page.evaluate("document.activeElement.textContent.trim()"))
        page.keyboard.press("Tab")
    assert "Where does it look?" in seen and {"Picture", "Several", "Model"} & seen


@on_a_desktop
def test_the_card_and_the_note_are_there(page):
    page.get_by_text("differs from viewer to viewer").first.wait_for()
    page.get_by_text("Trained on drawn pictures").first.wait_for()
    page.get_by_role("tab", name="Model").click()
    page.get_by_text("Intended use").wait_for()


def test_a_phone_shows_a_reports_figures_beside_the_majority(browser, toy_run):
    phone = browser.new_page(viewport={"width": 390, "height": 900})
    phone.goto((toy_run.path / "report.html").resolve().as_uri())
    for heading in ("Figures", "Per class"):
        box = phone.locator(f"h2:text-is('{heading}') + .wide")
        assert box.evaluate("box => box.scrollWidth - box.clientWidth") == 0, heading
    phone.close()


def test_only_this_machine_is_let_in(address):
    with urllib.request.urlopen(address) as answer:
        assert answer.status == 200
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError), socket.create_connection((own, int(address[-5:])), timeout=2):
        pass


def test_a_taken_port_is_said(toy_run, address):
    port = address.rpartition(":")[2]
    done = command("demo", toy_run.path, "--port", port)
    assert done.returncode == 2 and f"--port {port}" in done.stderr.splitlines()[-1]


def test_without_a_clone_it_asks_for_a_run(tmp_path):
    done = command("demo", cwd=tmp_path)
    assert done.returncode == 2 and "comes with a clone, is not in this folder" in done.stderr
