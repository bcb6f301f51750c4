"""Preparation on a Ray cluster of two workers, one of which is lost on the way."""

import threading
import time

import pytest

from deepconnotation.data import manifest, prepare
from deepconnotation.data.sources import Item, Source
from deepconnotation.emotions import FI

ray = pytest.importorskip("ray", reason="pip install deepconnotation[ray]")


@pytest.mark.slow  # a Ray cluster takes half a minute to start
def test_a_lost_worker_changes_nothing(many_pictures, tmp_path):
    from ray.cluster_utils import Cluster

    items = [Item(p.relative_to(many_pictures).as_posix(), p.parent.name, p)
             for p in sorted(many_pictures.rglob("*.png"))]  # fmt: skip
    source = Source("drawn", FI, items, [], "drawn")
    prepare.prepare(source, tmp_path / "here", 32, workers=1)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    journal, lost = tmp_path / "ray/.work/journal.jsonl", []

    def lose_one():
        while not (journal.exists() and journal.read_bytes().count(b'"sha256"') > 200):
            time.sleep(0.01)
        lost.append(journal.read_bytes().count(b'"sha256"'))
        cluster.remove_node(workers[0], allow_graceful=False)

    killer = threading.Thread(target=lose_one, daemon=True)
    killer.start()
    try:
        prepare.prepare(source, tmp_path / "ray", 32, engine="ray")
    finally:
        ray.shutdown()
        cluster.shutdown()
    killer.join(5)
    assert lost and lost[0] < len(items)
    for name in ("manifest.csv", "rejected.csv", "labels.json", "dataset.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    for file in manifest.read(tmp_path / "here")["file"]:
        assert (tmp_path / "ray" / file).read_bytes() == (tmp_path / "here" / file).read_bytes()
