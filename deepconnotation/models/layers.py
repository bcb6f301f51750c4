"""Layers of our own, which Keras can load once this module is imported, and one with a catch."""

from collections.abc import Iterable

from deepconnotation.backend import keras, tf

layers = keras.layers
LOCAL = -1


def finalize(model: keras.Model) -> keras.Model:
    """Let `Normalization` layers compute with the weights that a model was given, and return it.

    EfficientNet-B0 has one. Keras computes with a copy of its weights, which `set_weights` leaves
    as it was; loading a file does not.
    """
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()
    return model


@keras.saving.register_keras_serializable("deepconnotation")
class GlobalPath(layers.Layer):
    """Draws, once a batch, the column on which the whole net runs (Larsson et al. 2017).

    Args:
        columns: how many there are.
        share: of the batches that run on one column; in the others every join draws for itself.

    The output is an int32 scalar: the column, 0 the shallowest, or `LOCAL`; always `LOCAL` outside
    training.
    """

    def __init__(self, columns: int, share: float = 0.5, **kwargs):
        super().__init__(**kwargs)
        self.columns, self.share = columns, share
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, x, training=False):
        if not training:
            return tf.constant(LOCAL)
        column = keras.random.randint((), 0, self.columns, "int32", self.seed_generator)
        whole = keras.random.uniform((), dtype="float32", seed=self.seed_generator) < self.share
        return tf.where(whole, column, LOCAL)

    def compute_output_spec(self, x, training=False):
        return keras.KerasTensor((), "int32")

    def get_config(self):
        return {**super().get_config(), "columns": self.columns, "share": self.share}


@keras.saving.register_keras_serializable("deepconnotation")
class FractalBlock(layers.Layer):
    """A fractal of C columns, joined by means, with drop-path (Larsson et al., ICLR 2017).

    Column c = 0 … C-1 stacks 2^c units of convolution, dropout, batch normalisation and ReLU. All
    columns that end a unit in the same row are joined there, and go on from the join.

    In training a join draws, for every batch, which of its inputs live: each with probability
    1 - drop_path and at least one (local), or only the column that `GlobalPath` has drawn. What no
    live path needs is not computed. What joins see then has another variance than the mean of all
    columns has, so that the statistics of training mislead outside it: see `Settling`.

    Args:
        filters: of every convolution.
        columns: C.
        kernel: side of the convolutions, pixels.
        dropout: rate after every convolution.
        drop_path: local rate.
        initializer: of the kernels, a name of Keras.
        faithful_join: compute all paths and divide by the number of live ones as the original did:
            where none lives, its gradient is 0/0. For `reproduce` alone.
        deepest: outside training run on the deepest column alone.
    """

    def __init__(
        self, filters: int, columns: int = 3, kernel: int = 3, dropout: float = 0.0,
        drop_path: float = 0.15, initializer: str = "he_normal", faithful_join: bool = False,
        deepest: bool = False, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.settings = {
            "filters": filters, "columns": columns, "kernel": kernel, "dropout": dropout,
            "drop_path": drop_path, "initializer": initializer, "faithful_join": faithful_join,
            "deepest": deepest,
        }  # fmt: skip
        self.rows = 2 ** (columns - 1)
        self.strides = [self.rows >> c for c in range(columns)]  # rows from unit to unit
        self.units = {
            (c, row): Unit(filters, kernel, dropout, initializer, dtype=self.dtype_policy,
                           name=f"column{c + 1}_row{row}")
            for row in range(1, self.rows + 1) for c in self._joined(row)
        }  # fmt: skip
        self.seed_generator = keras.random.SeedGenerator()
        self.settling = False

    def _joined(self, row: int) -> list[int]:
        return [c for c, stride in enumerate(self.strides) if row % stride == 0]

    def build(self, x_shape, column_shape):
        inner = (*x_shape[:-1], self.settings["filters"])
        for (c, row), unit in self.units.items():
            unit.build(x_shape if row == self.strides[c] else inner)

    def call(self, x, column, training=False):
        if training:
            return self._drop_path(x, column)
        deepest = len(self.strides) - 1
        current = [x] * len(self.strides)
        for row in range(1, self.rows + 1):
            joined = [deepest] if self.settings["deepest"] else self._joined(row)
            # Without training=False Keras would hand on what the last normalisation was told.
            outputs = [self.units[c, row](current[c], training=False, statistics=self.settling)
                       for c in joined]  # fmt: skip
            current = self._go_on(current, joined, sum(outputs) / len(outputs))
        return current[deepest]

    def _drop_path(self, x, column):
        alive = {row: self._draw(self._joined(row), column) for row in range(1, self.rows + 1)}
        needed = self._needed(alive)
        current = [x] * len(self.strides)
        for row in range(1, self.rows + 1):
            joined, outputs = self._joined(row), []
            for c in joined:
                unit = self.units[c, row]
                if self.settings["faithful_join"]:
                    outputs.append(unit(current[c], training=True))
                else:
                    outputs.append(_compute_if(needed[c, row], unit, current[c]))
            join = self._faithful_mean if self.settings["faithful_join"] else self._mean
            mean = join(outputs, alive[row]) if len(joined) > 1 else outputs[0]
            current = self._go_on(current, joined, mean)
        return current[-1]

    def _draw(self, joined: list[int], column) -> list:
        """Return a boolean scalar for every input of a join."""
        if len(joined) == 1:
            return [tf.constant(True)]
        noise = keras.random.uniform((len(joined),), dtype="float32", seed=self.seed_generator)
        # The luckiest input lives also where all would be dropped.
        local = (noise >= self.settings["drop_path"]) | (noise == tf.reduce_max(noise))
        mask = tf.where(column == LOCAL, local, tf.constant(joined) == column)
        return tf.unstack(mask)

    def _needed(self, alive: dict[int, list]) -> dict:
        """Return for every unit whether a live path leads from it to the end of the block."""
        needed, wanted = {}, tf.constant(True)
        for row in range(self.rows, 0, -1):
            joined = self._joined(row)
            if row < self.rows:
                wanted = tf.reduce_any([needed[c, row + self.strides[c]] for c in joined])
            for c, lives in zip(joined, alive[row], strict=True):
                needed[c, row] = lives & wanted
        return needed

    def _mean(self, outputs: list, alive: list):
        # A dropped path has given zeros. A join of no live path is needed by nobody; its count is
        # guarded before the division, so that its gradient is 0 and not 0/0.
        count = tf.reduce_sum(tf.cast(tf.stack(alive), outputs[0].dtype))
        return tf.add_n(outputs) / tf.maximum(count, 1)

    def _faithful_mean(self, outputs: list, alive: list):
        masks = [tf.cast(lives, outputs[0].dtype) for lives in alive]
        total = tf.add_n([m * y for m, y in zip(masks, outputs, strict=True)])
        count = tf.add_n(masks)
        return tf.where(count == 0, tf.zeros_like(total), total / count)

    def _go_on(self, current: list, joined: list[int], mean) -> list:
        return [mean if c in joined else x for c, x in enumerate(current)]

    def compute_output_spec(self, x, column, training=False):
        return keras.KerasTensor((*x.shape[:-1], self.settings["filters"]), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("deepconnotation")
class Unit(layers.Layer):
    """Convolution of stride 1 without bias, dropout, batch normalisation, ReLU."""

    def __init__(self, filters: int, kernel: int, dropout: float, initializer: str, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.conv = layers.Conv2D(
            filters, kernel, padding="same", use_bias=False, kernel_initializer=initializer,
            dtype=dtype, name="conv",
        )  # fmt: skip
        self.dropout = layers.Dropout(dropout, dtype=dtype, name="dropout")
        self.bn = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype, name="bn")

    def build(self, shape):
        self.conv.build(shape)
        self.bn.build((*shape[:-1], self.conv.filters))

    def call(self, x, training=False, statistics=False):
        x = self.dropout(self.conv(x), training=training)
        return tf.nn.relu(self.bn(x, training=training or statistics))


class Settling:
    """Measures anew the statistics of FractalBlocks, as the net runs outside training.

    Each figure becomes the mean over the batches (Wu and Johnson 2021, arXiv 2105.07576, call it
    precise batch normalisation). Kept from epoch to epoch, because tracing takes seconds.

    Attributes:
        needed: whether the model has such blocks.
    """

    def __init__(self, model: keras.Model):
        """Prepare for a model that takes pictures."""
        self._blocks = [layer for layer in model.layers if isinstance(layer, FractalBlock)]
        self._norms = [unit.bn for block in self._blocks for unit in block.units.values()]
        self._share = tf.Variable(0.0, trainable=False)
        self._see = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
        self.needed = bool(self._blocks)

    def __call__(self, batches: Iterable[tf.Tensor]) -> None:
        """Measure.

        Args:
            batches: float32 (batch, height, width, 3), 0..255, of training pictures.
        """
        usual = [norm.momentum for norm in self._norms]
        try:
            for norm in self._norms:
                norm.momentum = self._share
            for block in self._blocks:
                block.settling = True
            for number, images in enumerate(batches):
                self._share.assign(number / (number + 1))
                self._see(images)
        finally:
            for block in self._blocks:
                block.settling = False
            for norm, momentum in zip(self._norms, usual, strict=True):
                norm.momentum = momentum


def _compute_if(needed, unit: Unit, x):
    """Return the unit's output, or zeros where nobody needs it."""
    shape = tf.concat([tf.shape(x)[:-1], [unit.conv.filters]], 0)
    static = (*x.shape[:-1], unit.conv.filters)
    y = tf.cond(needed, lambda: unit(x, training=True), lambda: tf.zeros(shape, unit.compute_dtype))
    return tf.ensure_shape(y, static)


@keras.saving.register_keras_serializable("deepconnotation")
class LegacyBilinear(layers.Layer):
    """Bilinear resizing as TensorFlow 1 did it: corners at corners, without half-pixel centres.

    From (batch, height, width, channels), any number, to float32 of the asked size.
    """

    def __init__(self, height: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.height, self.width = height, width

    def call(self, x):
        return tf.raw_ops.ResizeBilinear(
            images=x, size=(self.height, self.width), align_corners=False, half_pixel_centers=False
        )

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], self.height, self.width, x.shape[-1]), "float32")

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}


def stochastic_depth(x, rate: float, name: str):
    """Return a residual branch that is left out for each picture on its own, at a rate.

    Huang et al., ECCV 2016, arXiv 1603.09382; what is kept is divided by 1 - rate.
    """
    return layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=name)(x) if rate else x
