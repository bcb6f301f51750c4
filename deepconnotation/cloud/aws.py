"""Clients of Amazon's services, and their refusals as one line each.

Credentials come from where the AWS tools keep them (environment, ~/.aws, the machine's role); this
package neither asks for them nor writes or prints them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deepconnotation.console import UserError, one_line

#: forms of input of the built-in image classifier -> their content type
FORMS = {"recordio": "application/x-recordio", "lst": "application/x-image"}


def client(service: str, region: str | None = None) -> Any:
    """Return a boto3 client that retries when the service is busy.

    Args:
        service: "s3", "sagemaker" or "rekognition".
        region: like "eu-west-1"; None takes the user's own.

    Raises:
        UserError: when boto3 is not installed, or no region is known.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise UserError("boto3 is not installed; pip install deepconnotation[aws]") from None
    config = Config(retries={"mode": "adaptive", "max_attempts": 10})
    with refusals():
        return boto3.client(service, region_name=region, config=config)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what boto3 raises into one line that says what to do.

    Raises:
        UserError: for every refusal of the service or of boto3 itself.
    """
    from botocore import exceptions

    try:
        yield
    except exceptions.NoCredentialsError:
        raise UserError("AWS knows no credentials of yours; run `aws configure`, or set AWS_PROFILE"
                        ) from None  # fmt: skip
    except exceptions.NoRegionError:
        raise UserError("no AWS region; give --region, or set AWS_DEFAULT_REGION") from None
    except exceptions.ClientError as error:
        told = error.response.get("Error", {})
        raise UserError(f"AWS refuses {error.operation_name}: {told.get('Code')}, "
                        f"{told.get('Message', 'without a reason')}") from None  # fmt: skip
    except exceptions.BotoCoreError as error:
        raise UserError(f"AWS cannot be asked: {one_line(error)}") from None


def bucket_and_prefix(address: str) -> tuple[str, str]:
    """Return the two parts of s3://BUCKET/PREFIX; the prefix may be empty.

    Raises:
        UserError: for anything else.
    """
    scheme, _, rest = address.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise UserError(f"{address}: expected s3://BUCKET/PREFIX")
    return bucket, prefix.strip("/")
