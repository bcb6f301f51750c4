"""Training jobs of SageMaker: our own train command, or the built-in image classifier."""

import io
import json
import os
import re
import shlex
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import deepconnotation
from deepconnotation.cloud import container, storage
from deepconnotation.cloud.aws import FORMS, bucket_and_prefix, refusals
from deepconnotation.console import UserError
from deepconnotation.data import archive, manifest
from deepconnotation.models import registry
from deepconnotation.settings import Settings

SCRIPT = "train_in_container.py"
#: AWS's TensorFlow containers (account 763104351884); pip brings our own version of TensorFlow
OURS = "763104351884.dkr.ecr.{region}.amazonaws.com/tensorflow-training:2.19.0-{kind}-sagemaker"
KINDS = {"cpu": "cpu-py312-ubuntu22.04", "gpu": "gpu-py312-cu125-ubuntu22.04"}
#: region -> account of the built-in image-classification algorithm, as AWS documents them
BUILT_IN = {
    "us-east-1": "811284229777", "us-east-2": "825641698319", "us-west-2": "433757028032",
    "eu-west-1": "685385470294", "eu-central-1": "813361260812", "ap-northeast-1": "501404015308",
    "ap-southeast-2": "544295431143",
}  # fmt: skip
VOLUME = 50  # GB


@dataclass(frozen=True)
class Order:
    """What a training job is to be.

    Attributes:
        name: of the job, unique in the account and region.
        role: ARN of the role under which SageMaker reads and writes the bucket.
        address: s3://BUCKET/PREFIX for data, source and model.
        region: of the bucket and the job.
        instance: kind of machine, like "ml.m5.xlarge".
        hours: after which SageMaker stops the job.
    """

    name: str
    role: str
    address: str
    region: str
    instance: str
    hours: float


def own(s3: Any, dataset: Path, order: Order, arguments: str) -> dict:
    """Upload data and source, and describe a job that runs our train command (script mode).

    Args:
        s3: a client.
        dataset: a prepared data set.
        order: see there.
        arguments: of train, without --data and --run.

    Returns:
        Arguments of `create_training_job`.
    """
    storage.upload(s3, dataset, f"{order.address}/data")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "source.tar.gz").write_bytes(source())
        storage.send(s3, Path(folder), ["source.tar.gz"], f"{order.address}/{order.name}")
    submit = f"{order.address}/{order.name}/source.tar.gz"
    told = {
        "sagemaker_program": SCRIPT, "sagemaker_submit_directory": submit,
        "sagemaker_region": order.region, "arguments": arguments,
    }  # fmt: skip
    image = OURS.format(region=order.region, kind=KINDS["gpu" if _has_gpu(order) else "cpu"])
    channels = [_channel("data", f"{order.address}/data")]
    return _job(order, image, channels, {key: json.dumps(value) for key, value in told.items()})


def source() -> bytes:
    """Return the tar.gz that script mode unpacks: this package, its requirements, the script."""
    buffer, package = io.BytesIO(), Path(deepconnotation.__file__).parent
    needed = [r.partition(";")[0] for r in requires("deepconnotation") or ()
              if "extra ==" not in r or 'extra == "offline-weights"' in r]  # fmt: skip
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(package.rglob("*.py")):
            tar.add(path, Path("deepconnotation") / path.relative_to(package))
        tar.add(container.__file__, SCRIPT)
        text = "\n".join(needed).encode()
        member = tarfile.TarInfo("requirements.txt")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    return buffer.getvalue()


def built_in(s3: Any, dataset: Path, order: Order, form: str) -> dict:
    """Upload the data, and describe a job of the built-in classifier as Emotion-Classifier ran it.

    15 epochs of SGD (shared facts E); what the project did not say is the algorithm's default.

    Args:
        s3: a client.
        dataset: a prepared data set with a dev split.
        order: see there.
        form: "recordio" or "lst".

    Returns:
        Arguments of `create_training_job`.

    Raises:
        UserError: where AWS has the algorithm under an account that is not known here, or when the
            data set has no dev split; nothing was uploaded then.
    """
    if order.region not in BUILT_IN:
        raise UserError(f"--region {order.region}: the built-in algorithm is known in "
                        f"{', '.join(BUILT_IN)}")  # fmt: skip
    info, content = manifest.read_info(dataset), FORMS[form]
    with tempfile.TemporaryDirectory() as folder:
        write = storage.write_records if form == "recordio" else storage.write_lists
        counts = write(dataset, Path(folder))
        if not all(counts.values()):
            raise UserError(f"{dataset}: the built-in algorithm needs a train and a dev split")
        storage.send(s3, Path(folder), sorted(os.listdir(folder)), f"{order.address}/{form}")
    if form == "lst":
        storage.upload(s3, dataset, f"{order.address}/data")
    channels = []
    for split, name in storage.CHANNELS.items():
        listed = f"{order.address}/{form}/{name}.{'rec' if form == 'recordio' else 'lst'}"
        if form == "lst":
            channels.append(_channel(name, f"{order.address}/data/{split}", content))
        channels.append(_channel(name if form == "recordio" else f"{name}_lst", listed, content))
    told = {
        "image_shape": f"3,{info.height},{info.width}", "num_classes": len(info.classes),
        "num_training_samples": counts["train"], "epochs": 15, "optimizer": "sgd",
    }  # fmt: skip
    image = f"{BUILT_IN[order.region]}.dkr.ecr.{order.region}.amazonaws.com/image-classification:1"
    return _job(order, image, channels, {key: str(value) for key, value in told.items()})


def _has_gpu(order: Order) -> bool:
    return order.instance.split(".")[1][0] in "gp"


def _channel(name: str, address: str, content: str | None = None) -> dict:
    s3 = {
        "S3DataType": "S3Prefix", "S3Uri": address, "S3DataDistributionType": "FullyReplicated",
    }  # fmt: skip
    channel = {"ChannelName": name, "DataSource": {"S3DataSource": s3}}
    return channel | ({"ContentType": content} if content else {})


def _job(order: Order, image: str, channels: list[dict], told: dict[str, str]) -> dict:
    return {
        "TrainingJobName": order.name,
        "RoleArn": order.role,
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
        "HyperParameters": told,
        "InputDataConfig": channels,
        "OutputDataConfig": {"S3OutputPath": order.address},
        "ResourceConfig": {
            "InstanceType": order.instance, "InstanceCount": 1, "VolumeSizeInGB": VOLUME,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": round(order.hours * 3600)},
    }  # fmt: skip


def check(order: Order) -> None:
    """Refuse an order that SageMaker would refuse, before anything is uploaded.

    Raises:
        UserError: naming the flag.
    """
    bucket_and_prefix(order.address)
    if not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", order.name):
        raise UserError(f"--name {order.name}: expected up to 63 letters, digits and hyphens")
    if not re.fullmatch(r"arn:aws[\w-]*:iam::\d{12}:role/.+", order.role):
        raise UserError(f"--role {order.role}: expected arn:aws:iam::ACCOUNT:role/NAME")
    if not re.fullmatch(r"ml\.[a-z]\w*\.\w+", order.instance):
        raise UserError(f"--instance {order.instance}: expected a kind like ml.m5.xlarge")
    if not 0 < order.hours <= 120:
        raise UserError(f"--hours {order.hours}: expected more than 0, at most 120")


def check_arguments(text: str, dataset: Path) -> None:
    """Refuse arguments that train would refuse in the container, where the minutes cost money.

    Args:
        text: of train, as `own` takes them.
        dataset: a prepared data set.

    Raises:
        UserError: saying which.
        SystemExit: with status 2, after one line, where they are none of train's.
    """
    from deepconnotation import train

    try:
        args = train.parse(shlex.split(text))
    except ValueError as error:  # of shlex
        raise UserError(f"--arguments {text}: {error}") from None
    if args.data or args.run or args.resume:
        raise UserError("--arguments: the job itself sets --data and --run, and cannot --resume")
    if args.teacher or args.weights not in ("none", train.IMAGENET):
        raise UserError("--arguments: no --teacher, and no --weights but imagenet: files of this "
                        "machine are not there")  # fmt: skip
    settings = Settings.from_dict(vars(args))
    settings.check()
    train.trained_classes(args.arch, settings, manifest.read_info(dataset).classes, args.merge)
    if args.weights == train.IMAGENET:
        registry.check_imagenet(args.arch)


def status(sagemaker: Any, name: str) -> dict[str, str]:
    """Return what SageMaker tells of a job: status, step, seconds, why it failed, its figures."""
    with refusals():
        told = sagemaker.describe_training_job(TrainingJobName=name)
    rows = {
        "job": name,
        "status": told["TrainingJobStatus"],
        "step": told.get("SecondaryStatus", ""),
        "billed seconds": str(told.get("BillableTimeInSeconds", "")),
        "failed because": told.get("FailureReason", ""),
    }
    rows |= {m["MetricName"]: f"{m['Value']:.4g}" for m in told.get("FinalMetricDataList", ())}
    return {key: value for key, value in rows.items() if value}


def download(s3: Any, sagemaker: Any, name: str, folder: Path) -> Path:
    """Download and unpack what a job made; return the run folder, or the folder of the files.

    Raises:
        UserError: when there is no model yet, or the folder is there already.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already; give another --out")
    with refusals():
        told = sagemaker.describe_training_job(TrainingJobName=name)
        address = told.get("ModelArtifacts", {}).get("S3ModelArtifacts")
        if told["TrainingJobStatus"] not in ("Completed", "Stopped") or not address:
            raise UserError(f"{name} is {told['TrainingJobStatus']}; there is no model yet")
        bucket, key = bucket_and_prefix(address)
        folder.parent.mkdir(parents=True, exist_ok=True)
        packed = folder.with_name(f".{folder.name}.tar.gz")
        try:
            s3.download_file(bucket, key, str(packed))
            inside = archive.unpack(packed, folder.with_name(f".{folder.name}.unpacked"))
            os.replace(inside, folder)
        finally:
            packed.unlink(missing_ok=True)
            shutil.rmtree(folder.with_name(f".{folder.name}.unpacked"), ignore_errors=True)
    return folder
