"""What this machine could do at best: its matrix rates and its copy rate, and what a net asks for.

    python benchmarks/floor.py

Prints the rates. A step's floor is the larger of its floating-point operations over the measured
rate of large matrix products in its precision, and its bytes over the measured copy rate.
"""

import time

import numpy as np

from deepconnotation.backend import device_name, keras, tf

SIDE, REPEATS = 2048, 7


def matrix_rate(dtype: str) -> float:
    """Return floating-point operations a second of a large matrix product; the best of several."""
    a = tf.cast(tf.random.normal((SIDE, SIDE)), dtype)

    @tf.function
    def product():
        return tf.reduce_sum(tf.cast(tf.matmul(a, a)[:1], "float32"))

    return 2 * SIDE**3 / _best(lambda: float(product()))


def copy_rate() -> float:
    """Return bytes a second that are read and written by copying an array; the best of several."""
    source = np.ones(64 << 20, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / _best(lambda: np.copyto(target, source))


def _best(run) -> float:
    run()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def operations(model: keras.Model) -> float:
    """Return floating-point operations of one picture's forward pass, of products alone."""
    count = 0
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        places = int(np.prod(layer.output.shape[1:-1])) if len(layer.output.shape) > 2 else 1
        count += 2 * int(np.prod(kernel.shape)) * places
    return float(count)


def traffic(model: keras.Model, bytes_each: int) -> float:
    """Return bytes of a picture's forward pass when every layer reads its input and writes its
    output once."""
    sizes = [int(np.prod(layer.output.shape[1:])) for layer in model.layers]
    return 2.0 * bytes_each * sum(sizes)


def training_floor(model: keras.Model, rate: float, copied: float, bytes_each: int) -> float:
    """Return the least seconds of a training step a picture: three times a forward pass."""
    return 3 * max(operations(model) / rate, traffic(model, bytes_each) / copied)


if __name__ == "__main__":
    for name in ("float32", "bfloat16"):
        print(f"{name}: {matrix_rate(name) / 1e9:.0f} GFLOP/s")
    print(f"copying: {copy_rate() / 1e9:.1f} GB/s, {device_name()}")
