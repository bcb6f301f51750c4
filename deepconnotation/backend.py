"""TensorFlow made ready: import this before it.

oneDNN's convolutions are off by default on processors without AVX-512 VNNI. On an AMD Zen 3 the
backward pass of a ResNet is six times slower without them (a 512-channel 3x3 convolution on 1x1
pixels: .96 s against .07 s), so they are switched on unless the user has decided otherwise.

With a single thread, as on one core, TensorFlow 2.21 corrupts memory in such a backward pass where
the processor has no AVX-512 (tests/test_registry.py's resnet18 dies of it), so there it gets two.
"""

import contextlib
import gc
import glob
import os
from collections.abc import Iterator

from deepconnotation.console import quiet

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def _cpu_flags() -> set[str]:
    """Return what a processor with an x86 instruction set can do, as Linux names it."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return set(next((line for line in file if line.startswith("flags")), "").split())
    except OSError:
        return set()


def _single_thread_corrupts() -> bool:
    flags = _cpu_flags()
    if not flags or "avx512f" in flags:
        return False
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS") or str(len(os.sched_getaffinity(0)))
    return threads == "1"


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Import without looking for garbage, a fifth of the time, and never look through what was
    imported."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


with quiet(), _no_garbage():
    import keras
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # who has used TensorFlow before has chosen for us
        if _single_thread_corrupts():
            tf.config.threading.set_intra_op_parallelism_threads(2)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # others may want some of it, too
    if "TF_CONFIG" not in os.environ:  # several machines have to meet before that
        # The first operation starts the devices, which is when the rest of the lines appear.
        tf.config.list_logical_devices()
    tf.get_logger().setLevel("ERROR")  # a new model is a new graph; that is no news to a user

__all__ = ["device_name", "idle_gpu", "keras", "set_precision", "tf"]

NVIDIA = "/dev/nvidia[0-9]*"


def set_precision(precision: str) -> str:
    """Set Keras' policy and return its name.

    Args:
        precision: one of `settings.PRECISIONS`; "auto" takes mixed_bfloat16 where the processor
            computes in bfloat16, mixed_float16 on a GPU, and float32 elsewhere.
    """
    if precision == "auto":
        if tf.config.list_physical_devices("GPU"):
            precision = "mixed_float16"
        else:
            fast = _cpu_flags() & {"avx512_bf16", "amx_bf16"}
            precision = "mixed_bfloat16" if fast else "float32"
    keras.mixed_precision.set_dtype_policy(precision)
    return precision


def idle_gpu() -> bool:
    """Tell whether the machine shows an NVIDIA GPU that this TensorFlow cannot use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # hidden on purpose
        return False
    return bool(glob.glob(NVIDIA)) and not tf.config.list_physical_devices("GPU")


def device_name() -> str:
    """Return what computes, in words: the first GPU's name, or the processor's with its cores."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return f"{len(gpus)} x {details.get('device_name', 'GPU')}"
    model = "CPU"
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            model = next(line for line in file if line.startswith("model name")).split(":")[1]
    except (OSError, StopIteration):
        pass
    return f"{model.strip()}, {os.cpu_count()} cores"
