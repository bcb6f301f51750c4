"""Lists of addresses: FI's CSV files, url,label files and the original's labels.json."""

import csv
import json
import os
import shutil
from collections import Counter

import numpy as np
import pytest
import server
from PIL import Image
from tools import command, tool

from deepconnotation import run, train
from deepconnotation.console import UserError
from deepconnotation.data import labels, manifest, prepare
from deepconnotation.data.sources import Item, Options, Source, fi, read, urls
from deepconnotation.emotions import FACIAL_EXPRESSIONS, FI, emotion_set
from deepconnotation.settings import Settings

#: Strongly labelled pictures a class, and all rows, as published.
PUBLISHED = dict(zip(FI.classes, (4942, 1266, 3151, 5374, 1658, 2963, 1032, 2922), strict=True))
ROWS = 89_823


def published_rows():
    """Rows with the published counts: so many with 3, 4 or 5 of 5 votes, the others with fewer."""
    rng, number, rows = np.random.default_rng(0), 0, []
    for emotion, strong in PUBLISHED.items():
        weak = round(strong * (ROWS / sum(PUBLISHED.values()) - 1))
        for count, choices in ((strong, (3, 4, 5)), (weak, (0, 1, 2))):
            for agree in rng.choice(choices, count):
                number += 1
                rows.append((emotion, f"http://h/{number}.jpg", 5 - agree, agree))
    return rows


def write_rows(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Eight files, one an emotion, as the set is given out."""
    folder = tmp_path_factory.mktemp("fi")
    rows = published_rows()
    for emotion in FI.classes:
        write_rows(folder / f"{emotion}.csv", [r for r in rows if r[0] == emotion])
    return folder


def test_published_counts_at_three_of_five(published):
    source = fi.read([published])
    assert Counter(i.label for i in source.items) == PUBLISHED
    assert {i.extra["votes_for"] for i in source.items} == {"3", "4", "5"}
    assert all(int(i.extra["votes_for"]) + int(i.extra["votes_against"]) == 5 for i in source.items)
    assert {r.reason for r in source.rejections} == {"too_few_votes"}
    assert len(fi.read([published], min_agree=0).items) == len(published_rows())
    five = fi.read(sorted(published.glob("*.csv")), min_agree=5)
    assert {i.extra["votes_against"] for i in five.items} == {"0"}


def test_order_of_the_votes_is_checked(published, tmp_path):
    rows = [(e, u, agree, against) for e, u, against, agree in published_rows()]
    turned = write_rows(tmp_path / "turned.csv", rows)
    assert Counter(i.label for i in fi.read([turned]).items) == PUBLISHED
    with pytest.raises(UserError, match=r"0\.741 if disagree-agree, 0\.259 if agree-disagree"):
        fi.read([turned], vote_order="disagree-agree")
    half = [(e, u, *((2, 3) if i % 2 else (3, 2))) for i, (e, u, _, _) in enumerate(rows[:1000])]
    unclear = write_rows(tmp_path / "unclear.csv", half)
    with pytest.raises(UserError, match=r"0\.500 if .*0\.500 if .*--vote-order"):
        fi.read([unclear])
    assert len(fi.read([unclear], vote_order="agree-disagree").items) == 500


def test_addresses_under_several_rows(tmp_path):
    """Rows of one address: one emotion, one picture; two emotions that both agree, none."""
    rows = [("awe", "http://h/a", 1, 4), ("awe", "http://h/a", 0, 5)]
    rows += [("fear", "http://h/b", 1, 4), ("awe", "http://h/b", 1, 4)]
    rows += [("fear", "http://h/c", 1, 4), ("awe", "http://h/c", 4, 1)]
    rows += [("awe", f"http://h/{i}", 5, 0) for i in range(13)]
    source = fi.read([write_rows(tmp_path / "rows.csv", rows)])
    assert {(i.url, i.label) for i in source.items} == {
        ("http://h/a", "awe"),
        ("http://h/c", "fear"),
    }
    reasons = Counter(r.reason for r in source.rejections)
    assert reasons == {"repeated_row": 1, "conflicting_labels": 2, "too_few_votes": 14}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("awe,http://h/1,2\n", "row 1: expected emotion,address,votes,votes; received 3"),
        ("awe,http://h/1,1,4\nawe,http://h/2,x,4\n", "row 2: votes 'x', '4' are no numbers"),
        ("awe,http://h/1,1,1\n", "row 1: votes 1 and 1 do not sum to 5"),
        ("\n\naww,http://h/1,1,4\n", "row 3: unknown label 'aww'"),
        ('awe,"http://h/1,1,4\n' + "x" * 200_000, "row 1: no CSV"),
        ("", "no rows"),
    ],
)
def test_bad_rows_of_fi(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(UserError, match="bad.csv.*" + message):
        fi.read([path])


def test_lists_of_any_set(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        "\ufeffnote,Label,url,group\n,joy,http://h/1,ann\n,ANGRY,http://h/2,\n,joy,http://h/1,ann\n"
        ",fear,http://h/3,\n,sad,http://h/3,\n,contempt,http://h/4,\n",
        encoding="utf-8",
    )
    source = urls.read(path, FACIAL_EXPRESSIONS, drops=["contempt"])
    assert [(i.url, i.label, i.group) for i in source.items] == [
        ("http://h/1", "happiness", "ann"), ("http://h/2", "anger", ""),
    ]  # fmt: skip
    reasons = Counter(r.reason for r in source.rejections)
    assert reasons == {"repeated_row": 1, "conflicting_labels": 2, "dropped_class": 1}
    with pytest.raises(UserError, match="--emotions: say which label set"):
        read("folder", [path], Options())
    path.write_text("url,emotion\nhttp://h/1,joy\n")
    with pytest.raises(UserError, match="row 1: no column 'label' in 'url,emotion'; expected"):
        urls.read(path, FACIAL_EXPRESSIONS)
    for separator in ";\t":  # a spreadsheet's, where commas are decimal
        path.write_text(f"url{separator}label\nhttp://h/1,2{separator}joy\n")
        (item,) = urls.read(path, FACIAL_EXPRESSIONS).items
        assert (item.url, item.label) == ("http://h/1,2", "happiness")
    path.write_text("url,label\nhttp://h/1,joy\nhttp://h/2\n")
    with pytest.raises(UserError, match="row 3: expected 2 columns, received 1"):
        urls.read(path, FACIAL_EXPRESSIONS)


def test_a_list_of_ones_own_classes_is_learned(tmp_path, toy_source):
    names = {"awe": "Good", "fear": "so so", "sadness": "bad"}
    rows = [(item.path, names[item.label]) for item in toy_source.items if item.label in names]
    write_rows(tmp_path / "l.csv", [("file", "label"), *rows])
    done = tool("fetch_and_resize.py", tmp_path / "l.csv", "--emotions", "good,so so,bad",
                "--size", "16", "--out", tmp_path / "data")  # fmt: skip
    assert done.returncode == 0, done.stderr
    settings = Settings(epochs=1, batch=8, precision="float32")
    assert train.start("small_cnn", tmp_path / "data", tmp_path / "run", settings) == 0
    found = run.load(tmp_path / "run")
    assert found.classes == ["good", "so_so", "bad"]
    told = json.loads((found.path / "metrics.json").read_text())
    assert told["geometry"] == {}  # nobody knows how pleasant they are
    report = (found.path / "report.html").read_text()
    assert "Which of these labels do people give a picture: good, so_so, bad?" in report
    assert "A face does not reveal" in report and "differs from viewer to viewer" in report
    header = command("predict", found.path, rows[0][0], "--csv").stdout.splitlines()[0]
    assert header.startswith("file,status,label,confidence,p_good,p_so_so,p_bad,")


def test_lists_of_files(tmp_path, toy_source):
    """Paths from the list's folder and absolute ones; a file that is gone is told, as any other."""
    names = [os.path.relpath(item.path, tmp_path) for item in toy_source.items]
    names[0] = str(toy_source.items[0].path)
    rows = [(n, i.label, n) for n, i in zip(names, toy_source.items, strict=True)]
    write_rows(tmp_path / "l.csv", [("file", "label", "group"), *rows, ("gone.jpg", "awe", "")])
    done = tool("fetch_and_resize.py", tmp_path / "l.csv", "--emotions", "fi8", "--size", "16",
                "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = manifest.read(tmp_path / "out")
    assert {*zip(table["source"], table["label"], table["group"], strict=True)} == {*rows}
    rejected = (tmp_path / "out/rejected.csv").read_text().splitlines()
    assert rejected[1:] == ["gone.jpg,unreadable,No such file or directory"]


def test_ratings_of_a_list(tmp_path):
    path = tmp_path / "rated.csv"
    path.write_text("file,label,Valence,arousal\n1.jpg,awe,-.25,\n2.jpg,fear,1,0\n3.jpg,awe,,1e-3\n")
    told = [item.extra for item in urls.read(path, FI).items]
    assert told == [{"valence": "-0.25", "arousal": ""}, {"valence": "1", "arousal": "0"},
                    {"valence": "", "arousal": "0.001"}]  # fmt: skip
    path.write_text("file;label;valence;awe;fear\n1.jpg;awe;-0,25;2,5;2,5\n")  # a spreadsheet's
    (item,) = urls.read(path, emotion_set("awe,fear")).items
    assert item.extra == {"share_awe": "0.5", "share_fear": "0.5", "valence": "-0.25"}
    for bad in ("4", "high", "nan"):
        path.write_text(f"file,label,arousal\n1.jpg,awe,{bad}\n")
        with pytest.raises(UserError, match=f"row 2: arousal '{bad}': expected a number from -1"):
            urls.read(path, FI)


def test_a_list_that_tells_the_splits(tmp_path, toy_source):
    """Every fifth picture is for test; a training picture that is nearly one of these is not."""
    rows = [(str(item.path), item.label, "test" if i % 5 == 0 else "train")
            for i, item in enumerate(toy_source.items)]  # fmt: skip
    near = Image.open(rows[0][0]).convert("RGB")
    near.putpixel((0, 0), (0, 0, 0))
    near.save(tmp_path / "near.png")
    shutil.copy(rows[0][0], tmp_path / "0.png")  # before the other by its name, and yet it goes
    more = [(name, rows[0][1], "train") for name in ("near.png", "0.png")]
    write_rows(tmp_path / "l.csv", [("file", "label", "split"), *rows, *more])
    prepare.prepare(urls.read(tmp_path / "l.csv", FI), tmp_path / "out", 16, workers=1)
    table = manifest.read(tmp_path / "out")
    test = {source for source, _, split in rows if split == "test"}
    assert {*table.loc[table["split"] == "test", "source"]} == test
    assert set(table["split"]) == {"train", "dev", "test"}
    rejected = (tmp_path / "out/rejected.csv").read_text()
    assert "near.png,near_official" in rejected and "0.png,duplicate" in rejected
    write_rows(tmp_path / "l.csv", [("file", "label", "split"), ("1.jpg", "awe", "holdout")])
    with pytest.raises(UserError, match="l.csv row 2: unknown split 'holdout'; expected train"):
        urls.read(tmp_path / "l.csv", FI)


def test_a_list_without_rows(tmp_path):
    (tmp_path / "l.csv").write_text("file,label\n")
    with pytest.raises(UserError, match="l.csv: no row below its header"):
        urls.read(tmp_path / "l.csv", FI)


def test_counts_of_the_original_labels_file(tmp_path, capsys):
    """A file of 84,923 entries with the split sizes and class totals of the original's."""
    ids = np.repeat(np.arange(8), labels.ORIGINAL_CLASSES)
    assert len(ids) == 84_923 and labels.ORIGINAL_CLASSES[6] / len(ids) < 0.145
    np.random.default_rng(0).shuffle(ids)
    lists, start = {}, 0
    for split, count in labels.ORIGINAL_SPLITS.items():
        lists[f"{split}X"] = [f"{i}.jpg" for i in range(start, start + count)]
        lists[f"{split}Y"] = ids[start : start + count].tolist()
        start += count
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(lists))
    source = Source("fi", FI, [Item("7.jpg", "awe", tmp_path / "7.jpg")], [], "none")
    taken = labels.apply(source, path)
    assert taken.items[0].label == FI.classes[ids[7]] and taken.items[0].split == "train"
    assert "the original project's split of its 84,923 pictures" in capsys.readouterr().out
    lists["trainY"][0] = (lists["trainY"][0] + 1) % 8
    path.write_text(json.dumps(lists))
    labels.apply(source, path)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainY": [0]}, "2 entries in trainX, 1 in trainY"),
        ({"trainY": [0, 8]}, r"trainY\[1\] is 8; expected 0 to 7"),
        ({"trainY": [0, True]}, r"trainY\[1\] is True"),
        ({"testX": ["a"], "testY": [0]}, r"testX\[0\] 'a' occurs twice"),
        ({"devX": None}, "no list 'devX'"),
        ({"trainX": ["a", 7]}, r"trainX\[1\] is no text"),
    ],
)
def test_bad_labels_files(tmp_path, change, message):
    good = {
        "trainX": ["a", "b"],
        "trainY": [0, 1],
        "devX": [],
        "devY": [],
        "testX": [],
        "testY": [],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(good | change))
    with pytest.raises(UserError, match=message):
        labels.read(path, FI.classes)


def test_the_split_of_a_data_set_comes_back_from_its_labels_file(tmp_path, toy_source, toy_data):
    out = tmp_path / "again"
    drawn = toy_source.items[0].path.parents[1]
    done = tool("fetch_and_resize.py", drawn, "--dataset", "fi", "--size", 16, "--seed", 5,
                "--labels", toy_data / "labels.json", "--out", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = manifest.read(toy_data), manifest.read(out)
    assert before.set_index("id")["split"].to_dict() == after.set_index("id")["split"].to_dict()
    assert "given with the data" in manifest.read_info(out).split
    some = json.loads((toy_data / "labels.json").read_text())
    some["trainX"][0] = "elsewhere/gone.jpg"
    (tmp_path / "some.json").write_text(json.dumps(some))
    done = tool("fetch_and_resize.py", drawn, "--dataset", "fi", "--size", 16,
                "--labels", tmp_path / "some.json", "--out", tmp_path / "some")  # fmt: skip
    assert "not taken, not_in_labels: 1" in done.stdout
    assert "not taken, missing_file: 1" in done.stdout


def test_addresses_to_a_prepared_data_set(tmp_path):
    """The whole command: every address is accounted for, and asked for once."""
    host = server.Host()
    rows = []
    for k, emotion in enumerate(FI.classes):
        rows += [(emotion, host.url(f"/ok/{100 * k + i}"), 1, 4) for i in range(12)]
        rows += [(emotion, host.url(f"/ok/{100 * k + 50 + i}"), 4, 1) for i in range(50)]
        rows += [(emotion, host.url(f"/to//photo_unavailable.png?{k}"), 1, 4)]
        rows += [
            (emotion, host.url(f"/status/404?{k}"), 1, 4),
            (emotion, host.url(f"/html?{k}"), 0, 5),
        ]
    path = write_rows(tmp_path / "fi.csv", rows)
    command = ["fetch_and_resize.py", path, "--dataset", "fi", "--allow-private-hosts"]
    command += ["--fractions", "60/20/20", "--out", tmp_path / "out", "--size"]
    done = tool(*command, 16)
    assert done.returncode == 0, done.stderr
    table = manifest.read(tmp_path / "out")
    with open(tmp_path / "out/rejected.csv", newline="") as file:
        rejected = list(csv.DictReader(file))
    assert Counter(r["reason"] for r in rejected) == {
        "too_few_votes": 400, "placeholder": 8, "gone": 8, "html": 8,
    }  # fmt: skip
    assert {r["source"] for r in rejected} | set(table["source"]) == {r[1] for r in rows}
    for row in rejected:
        if row["reason"] == "html":
            assert row["status"] == "200" and int(row["bytes"]) > 20 and float(row["seconds"]) > 0
    assert set(table["votes_for"]) == {"4"} and set(table["status"]) == {"200"}
    lines = done.stdout.splitlines()
    head = lines.index("what became of the addresses:") + 1
    assert lines[head].split() == ["addresses", "came", "gone", "placeholder"]
    assert lines[head + 2].split() == ["amusement", "15", "13", "1", "1"]
    asked = dict(host.asked)
    again = tool(*command, 16)
    assert again.returncode == 0 and host.asked == asked
    other = tool(*command, 24)
    assert other.returncode == 2 and "other settings" in other.stderr
    host.shutdown()
