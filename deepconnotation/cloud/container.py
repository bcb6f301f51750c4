"""What runs inside SageMaker's TensorFlow container: our train command.

Script mode gives the data set's folder, the hyper-parameters and the folder that becomes
model.tar.gz in the environment (https://github.com/aws/sagemaker-training-toolkit).
"""

import json
import os
import shlex


def main() -> int:
    from deepconnotation import train

    words = shlex.split(json.loads(os.environ["SM_HPS"])["arguments"])
    data, folder = os.environ["SM_CHANNEL_DATA"], os.environ["SM_MODEL_DIR"]
    return train.main([*words, "--data", data, "--run", os.path.join(folder, "run")])


if __name__ == "__main__":
    from deepconnotation.console import run_command

    run_command(main)
