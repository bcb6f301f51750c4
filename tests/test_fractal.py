"""FractalNet against the paper's tables, its drop-path, and the original project's NaN."""

from functools import partial

import numpy as np
import pytest

from deepconnotation.backend import keras, tf
from deepconnotation.models import fractal
from deepconnotation.models.layers import LOCAL, FractalBlock, GlobalPath, Settling

COLUMN = {LOCAL: "local", 0: "shallowest", 1: "middle", 2: "deepest"}


def weights(model) -> int:
    """Convolutions and last layer, without batch normalisation, as the paper counts."""
    kernels = [v for v in model.trainable_variables if not v.path.endswith(("gamma", "beta"))]
    return sum(int(np.prod(v.shape)) for v in kernels)


def expanded(columns: int, n: int, f: int, kernel: int) -> int:
    """The paper's expansion rule: f_C is f_(C-1) twice in a row, beside one convolution."""
    one = kernel * kernel * n * f
    if columns == 1:
        return one
    return expanded(columns - 1, n, f, kernel) + expanded(columns - 1, f, f, kernel) + one


@pytest.mark.parametrize(("columns", "millions"), [(1, 0.3), (2, 0.8), (3, 2.1), (4, 4.8)])
def test_parameters_of_the_papers_table(columns, millions):
    """Table 3 of arXiv 1605.07648, CIFAR-100: parameters by number of columns."""
    model = fractal.build("fractal", (32, 32, 3), 100, columns=columns, width=16, last_kernel=3)
    widths = (3, 16, 32, 64, 128, 128)
    blocks = [expanded(columns, n, f, 3) for n, f in zip(widths, widths[1:], strict=False)]
    assert weights(model) == sum(blocks) + 128 * 100 + 100
    assert round(weights(model) / 1e6, 1) == millions


def test_structure_of_the_original():
    """Facts B: blocks of 4 + 2 + 1 convolutions, kernels 3, 3, 3, 3, 2, dropout 0 to .4."""
    model = fractal.build("fractal", (32, 32, 3), 8)
    filters = (64, 128, 256, 512, 512)
    for number, f in enumerate(filters, start=1):
        block = model.get_layer(f"block{number}")
        assert sorted(block.units) == [(0, 4), (1, 2), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4)]
        for unit in block.units.values():
            side = 2 if number == 5 else 3
            assert unit.conv.kernel.shape == (side, side, unit.conv.kernel.shape[2], f)
            assert unit.dropout.rate == pytest.approx((number - 1) / 10)
    assert model.get_layer("embedding").output.shape == (None, 512)
    widths = zip((3, *filters), filters, (3, 3, 3, 3, 2), strict=False)
    assert weights(model) == sum(expanded(3, *w) for w in widths) + 512 * 8 + 8
    assert round(weights(model) / 1e6, 1) == 24.5


@pytest.fixture
def pictures():
    return tf.constant(np.random.default_rng(0).normal(size=(4, 6, 6, 5)).astype("float32"))


def block(**settings) -> FractalBlock:
    keras.utils.set_random_seed(0)
    made = FractalBlock(7, **settings)
    made.build((None, 6, 6, 5), ())
    return made


def by_hand(made: FractalBlock, x, alive) -> tf.Tensor:
    """The formula of three columns written out; `alive` are the joins' masks at rows 2 and 4."""

    def unit(c, row, x):
        return made.units[c, row](x, training=True)

    def mean(parts, mask):
        return sum(y for y, m in zip(parts, mask, strict=True) if m) / sum(mask)

    inner = unit(2, 2, unit(2, 1, x))
    half = mean([unit(1, 2, x), inner], alive[2]) if any(alive[2]) else tf.zeros_like(inner)
    parts = [unit(0, 4, x), unit(1, 4, half), unit(2, 4, unit(2, 3, half))]
    return mean(parts, alive[4])


def gradients(function, made, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function()
        loss = tf.reduce_sum(y**2)
    kernels = [made.units[key].conv.kernel.value for key in made.units]
    return y, tape.gradient(loss, [x, *kernels], unconnected_gradients="zero")


@pytest.mark.parametrize("column", COLUMN, ids=COLUMN.values())
def test_what_is_not_computed_is_what_counts_for_nothing(pictures, column):
    made = block()
    run = tf.function(lambda: made(pictures, tf.constant(column), training=True))
    for _ in range(3):
        state = made.seed_generator.state.value.numpy()
        alive = {row: np.array(made._draw(made._joined(row), column)) for row in (1, 2, 3, 4)}
        made.seed_generator.state.assign(state)
        y, ours = gradients(run, made, pictures)
        expected, theirs = gradients(partial(by_hand, made, pictures, alive), made, pictures)
        assert np.allclose(y, expected, atol=1e-5)
        for a, b in zip(ours, theirs, strict=True):
            assert np.allclose(a, b, atol=1e-4)


def test_a_global_column_is_a_plain_stack(pictures):
    made = block()
    stack = {0: [(0, 4)], 1: [(1, 2), (1, 4)], 2: [(2, 1), (2, 2), (2, 3), (2, 4)]}
    for column, keys in stack.items():
        x = pictures
        for key in keys:
            x = made.units[key](x, training=True)
        assert np.allclose(made(pictures, tf.constant(column), training=True), x, atol=1e-5)


def test_outside_training_all_paths_count_or_the_deepest_alone(pictures):
    made, column = block(), tf.constant(LOCAL)
    unit = {key: (lambda x, u=u: u(x, training=False)) for key, u in made.units.items()}
    half = (unit[1, 2](pictures) + unit[2, 2](unit[2, 1](pictures))) / 2
    whole = (unit[0, 4](pictures) + unit[1, 4](half) + unit[2, 4](unit[2, 3](half))) / 3
    assert np.allclose(made(pictures, column), whole, atol=1e-5)
    x = pictures
    for row in (1, 2, 3, 4):
        x = unit[2, row](x)
    assert np.allclose(block(deepest=True)(pictures, column), x, atol=1e-5)


def test_settled_statistics_are_those_of_all_paths_without_dropout():
    model = fractal.build("fractal", (16, 16, 3), 5, blocks=2, width=4, dropout=0.5, drop_path=0.5)
    rng = np.random.default_rng(0)
    batches = [rng.uniform(0, 255, (8, 16, 16, 3)).astype(np.float32) for _ in range(3)]
    for batch in batches:
        model(batch, training=True)  # leaves statistics of other paths behind
    settle = Settling(model)
    settle(batches)
    first = model.get_layer("block1").units
    mean, variance = np.zeros(4), np.zeros(4)
    for batch in batches:
        x = np.asarray(first[0, 4].conv(batch / 64 - 2.0))
        mean, variance = mean + x.mean((0, 1, 2)) / 3, variance + x.var((0, 1, 2)) / 3
    assert np.allclose(first[0, 4].bn.moving_mean, mean, atol=1e-4)
    assert np.allclose(first[0, 4].bn.moving_variance, variance, rtol=1e-4)
    settle(batches[:1])  # then every unit normalises this batch to mean 0 and variance 1
    seen = {}
    for name in ("block1", "block2"):
        for key, unit in model.get_layer(name).units.items():
            unit.bn.call = partial(_watched, unit.bn.call, seen, (name, key))
    model(batches[0], training=False)
    for x, unit in zip(seen.values(), units(model), strict=True):
        assert unit.bn.momentum == 0.9
        assert np.allclose(x.mean((0, 1, 2)), 0, atol=1e-3)
        var = unit.bn.moving_variance.numpy()
        assert np.allclose(x.var((0, 1, 2)), var / (var + 1e-5), atol=1e-3)


def _watched(call, seen, key, *args, **kwargs):
    seen[key] = np.asarray(y := call(*args, **kwargs))
    return y


def units(model):
    return [unit for name in ("block1", "block2") for unit in model.get_layer(name).units.values()]


def test_paths_are_drawn_anew_at_the_papers_rates():
    made, draw = block(drop_path=0.15), GlobalPath(3)

    @tf.function
    def sample():
        return draw(tf.zeros(1), training=True), tf.stack(made._draw([0, 1, 2], tf.constant(LOCAL)))

    drawn = [sample() for _ in range(2000)]
    columns = np.array([int(c) for c, _ in drawn])
    # Half of the batches local, a sixth on each column; four standard errors are .045.
    assert np.mean(columns == LOCAL) == pytest.approx(1 / 2, abs=0.045)
    assert [np.mean(columns == c) for c in range(3)] == pytest.approx([1 / 6] * 3, abs=0.034)
    alive = np.array([np.array(mask) for _, mask in drawn])
    assert alive.any(axis=1).all()
    # Dropped with .15, unless it is the luckiest of three that would all be dropped.
    assert 1 - alive.mean() == pytest.approx(0.15 - 0.15**3 / 3, abs=0.02)
    assert int(draw(tf.zeros(1), training=False)) == LOCAL


def losses(
    faithful: bool, steps: int, width: int, batch: int, blocks: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Train on noise with Adam; return every step's loss and norm of the gradient."""
    keras.utils.set_random_seed(0)
    model = fractal.build(
        "fractal", (32, 32, 3), 8, blocks=blocks, width=width, faithful_join=faithful
    )
    optimizer = keras.optimizers.Adam(1e-3)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (batch, 32, 32, 3)).astype("float32"))
    labels = tf.constant(rng.integers(0, 8, batch))
    optimizer.build(model.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradient = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradient, model.trainable_variables)
        return loss, tf.linalg.global_norm(gradient)

    return np.array([[float(v) for v in step()] for _ in range(steps)]).T


@pytest.mark.parametrize("blocks", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_the_originals_join_becomes_nan_and_ours_does_not(blocks):
    loss, norms = losses(faithful=True, steps=40, width=2, batch=8, blocks=blocks)
    first = int(np.argmax(~np.isfinite(norms)))
    # The global column 0 kills the inner join in a sixth of the batches: (5/6)^40 < .001.
    assert not np.isfinite(norms[first]) and np.isfinite(loss[: first + 1]).all()
    assert np.isnan(loss[first + 1 :]).all()
    loss, norms = losses(faithful=False, steps=200, width=2, batch=8, blocks=blocks)
    assert np.isfinite(loss).all() and np.isfinite(norms).all()
    assert loss[-100:].mean() < loss[:100].mean()


@pytest.mark.slow
def test_2000_steps_at_the_originals_settings_stay_finite():
    loss, norms = losses(faithful=False, steps=2000, width=64, batch=100)
    assert np.isfinite(loss).all() and np.isfinite(norms).all()
