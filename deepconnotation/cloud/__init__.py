"""The original projects' cloud baselines: S3, SageMaker, Rekognition (extra [aws])."""

from deepconnotation.cloud.command import main as main
