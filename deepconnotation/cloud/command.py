"""The original projects' cloud baselines, on your own account (extra [aws]).

    python -m deepconnotation.cloud upload data/faces s3://BUCKET/faces
    python -m deepconnotation.cloud train data/faces s3://BUCKET/faces --role ARN \\
        --arguments "--arch resnet --epochs 20"
    python -m deepconnotation.cloud train data/faces s3://BUCKET/faces --role ARN \\
        --built-in recordio
    python -m deepconnotation.cloud status JOB
    python -m deepconnotation.cloud stop JOB
    python -m deepconnotation.cloud download JOB --out snapshots/faces-cloud
    python -m deepconnotation.cloud rekognition data/faces/test --out faces.csv

What costs money says what it will do, and does it with --yes only. Credentials are those of the AWS
tools; none are written or printed.
"""

import argparse
from datetime import datetime
from pathlib import Path

from deepconnotation.cloud.aws import FORMS
from deepconnotation.console import BAD_USE, UserError, argument_parser


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser(__doc__, prog="python -m deepconnotation.cloud")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, what: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=what, description=what)
        made.add_argument("--region", help="like eu-west-1 (default: that of the AWS tools)")
        return made

    one = action("upload", "send a prepared data set to S3")
    one.add_argument("dataset")
    one.add_argument("address", metavar="s3://BUCKET/PREFIX")
    one = action("train", "start a training job of SageMaker")
    one.add_argument("dataset")
    one.add_argument("address", metavar="s3://BUCKET/PREFIX")
    one.add_argument("--role", metavar="ARN", required=True, help="under which SageMaker works")
    one.add_argument("--arguments", metavar="WORDS", help="of our train command, without --data "
                     "and --run [--arch resnet]")  # fmt: skip
    one.add_argument("--built-in", choices=FORMS, help="the built-in image classifier instead, as "
                     "published, with this form of input")  # fmt: skip
    one.add_argument("--instance", help="kind of machine [ml.m5.xlarge, built-in ml.g4dn.xlarge]")
    one.add_argument("--hours", type=float, default=4.0, help="at most [4]")
    one.add_argument("--name", help="of the job [deepconnotation-TIME]")
    one.add_argument("--yes", action="store_true", help="start it")
    for name, what in (("status", "tell how a job is going"), ("stop", "stop a job")):
        action(name, what).add_argument("job")
    one = action("download", "get what a job has made")
    one.add_argument("job")
    one.add_argument("--out", required=True, metavar="DIR", help="folder to be made")
    one = action("rekognition", "ask Rekognition for the emotions of faces; goes on where it was")
    one.add_argument("folder")
    one.add_argument("--out", required=True, metavar="FILE.csv")
    one.add_argument("--yes", action="store_true", help="ask, and pay")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    return ACTIONS[args.action](args)


def upload(args: argparse.Namespace) -> int:
    from deepconnotation.cloud import aws, storage

    sent = storage.upload(aws.client("s3", args.region), Path(args.dataset), args.address)
    print(f"{sent} files sent to {args.address}")
    return 0


def train(args: argparse.Namespace) -> int:
    from deepconnotation.cloud import aws, jobs

    s3, sagemaker = (aws.client(service, args.region) for service in ("s3", "sagemaker"))
    usual = "ml.g4dn.xlarge" if args.built_in else "ml.m5.xlarge"
    order = jobs.Order(
        args.name or datetime.now().strftime("deepconnotation-%Y%m%d-%H%M%S"), args.role,
        args.address.rstrip("/"), sagemaker.meta.region_name, args.instance or usual, args.hours,
    )  # fmt: skip
    jobs.check(order)
    arguments = args.arguments or "--arch resnet"
    if not args.built_in:
        jobs.check_arguments(arguments, Path(args.dataset))
    elif args.arguments:
        raise UserError("--arguments: the built-in classifier takes none")
    print(f"{order.name}: {args.dataset} to {order.address}, then one {order.instance} in "
          f"{order.region} for at most {order.hours:g} hours; what an hour costs: "
          "https://aws.amazon.com/sagemaker/ai/pricing/")  # fmt: skip
    if not args.yes:
        return _nothing_done()
    if args.built_in:
        job = jobs.built_in(s3, Path(args.dataset), order, args.built_in)
    else:
        job = jobs.own(s3, Path(args.dataset), order, arguments)
    with aws.refusals():
        sagemaker.create_training_job(**job)
    print(f"started; python -m deepconnotation.cloud status {order.name}")
    return 0


def status(args: argparse.Namespace) -> int:
    from deepconnotation.cloud import aws, jobs

    told = jobs.status(aws.client("sagemaker", args.region), args.job)
    print("\n".join(f"{key}: {value}" for key, value in told.items()))
    return 0


def stop(args: argparse.Namespace) -> int:
    from deepconnotation.cloud import aws

    sagemaker = aws.client("sagemaker", args.region)
    with aws.refusals():
        sagemaker.stop_training_job(TrainingJobName=args.job)
    print(f"{args.job} is being stopped; what it has made so far can be downloaded then")
    return 0


def download(args: argparse.Namespace) -> int:
    from deepconnotation.cloud import aws, jobs

    s3, sagemaker = (aws.client(service, args.region) for service in ("s3", "sagemaker"))
    print(jobs.download(s3, sagemaker, args.job, Path(args.out)))
    return 0


def rekognition(args: argparse.Namespace) -> int:
    from deepconnotation.cloud import aws, faces

    folder, out = Path(args.folder), Path(args.out)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names = faces.pictures(folder)
    known = faces.answered(folder, out)
    left = len(set(names) - set(known))
    print(f"{len(names)} pictures, {left} not asked for yet: about ${left * faces.PRICE:.2f} at "
          "Rekognition's list price; the pictures leave this machine")  # fmt: skip
    if left and not args.yes:
        return _nothing_done()
    rows = list(faces.ask(aws.client("rekognition", args.region), folder, names, known, out))
    print("\n".join(faces.summary(rows)))
    return 0


def _nothing_done() -> int:
    print("nothing was done; give --yes to go on")
    return BAD_USE


ACTIONS = {
    "upload": upload, "train": train, "status": status, "stop": stop, "download": download,
    "rekognition": rekognition,
}  # fmt: skip
