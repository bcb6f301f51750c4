"""Show-and-Tell's encoder against a frozen TensorFlow 1 graph of im2txt's names, run as it is."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from deepconnotation.backend import keras, tf
from deepconnotation.console import UserError
from deepconnotation.models import registry

v1 = tf.compat.v1


class Slim:
    """Writes InceptionV3 as tf.contrib.slim does: constants, plain operations, its names."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def conv(self, x, scope, filters, kernel, strides=1, padding="SAME"):
        name = f"InceptionV3/InceptionV3/{scope}"
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        fan = height * width * x.shape[-1]
        kernel = self.rng.normal(0, np.sqrt(2 / fan), (height, width, x.shape[-1], filters))
        kernel = tf.constant(kernel, tf.float32, name=f"{name}/weights")
        limits = {"beta": (-0.1, 0.1), "moving_mean": (-0.1, 0.1), "moving_variance": (0.8, 1.2)}
        beta, mean, variance = (
            tf.constant(self.rng.uniform(low, high, filters), tf.float32,
                        name=f"{name}/BatchNorm/{part}")
            for part, (low, high) in limits.items()
        )  # fmt: skip
        x = tf.nn.conv2d(x, kernel, strides, padding)
        return tf.nn.relu(tf.nn.batch_normalization(x, mean, variance, beta, None, 0.001))

    def branches(self, x, scope, *branches):
        """Every branch is a list of (name, filters, kernel); a tuple of two goes both ways."""
        outputs = []
        for number, branch in enumerate(branches):
            y = x if branch[0] != "pool" else tf.nn.avg_pool2d(x, 3, 1, "SAME")
            for name, filters, kernel in (step for step in branch if step != "pool"):
                path = f"{scope}/Branch_{number}/"
                if isinstance(name, tuple):
                    parts = zip(name, kernel, strict=True)
                    y = tf.concat([self.conv(y, path + n, filters, k) for n, k in parts], 3)
                else:
                    y = self.conv(y, path + name, filters, kernel)
            outputs.append(y)
        return tf.concat(outputs, 3)

    def __call__(self, x):
        x = self.conv(x, "Conv2d_1a_3x3", 32, 3, 2, "VALID")
        x = self.conv(x, "Conv2d_2a_3x3", 32, 3, 1, "VALID")
        x = self.conv(x, "Conv2d_2b_3x3", 64, 3)
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        x = self.conv(x, "Conv2d_3b_1x1", 80, 1, 1, "VALID")
        x = self.conv(x, "Conv2d_4a_3x3", 192, 3, 1, "VALID")
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        a = "Conv2d_0a_1x1"
        five = {"Mixed_5b": (a, "Conv2d_0b_5x5", 32), "Mixed_5d": (a, "Conv2d_0b_5x5", 64),
                "Mixed_5c": ("Conv2d_0b_1x1", "Conv_1_0c_5x5", 64)}  # fmt: skip
        for scope in sorted(five):
            first, second, pooled = five[scope]
            x = self.branches(
                x, scope, [(a, 64, 1)], [(first, 48, 1), (second, 64, 5)],
                [(a, 64, 1), ("Conv2d_0b_3x3", 96, 3), ("Conv2d_0c_3x3", 96, 3)],
                ["pool", ("Conv2d_0b_1x1", pooled, 1)],
            )  # fmt: skip
        y = self.conv(x, "Mixed_6a/Branch_0/Conv2d_1a_1x1", 384, 3, 2, "VALID")
        z = self.conv(x, "Mixed_6a/Branch_1/" + a, 64, 1)
        z = self.conv(z, "Mixed_6a/Branch_1/Conv2d_0b_3x3", 96, 3)
        z = self.conv(z, "Mixed_6a/Branch_1/Conv2d_1a_1x1", 96, 3, 2, "VALID")
        x = tf.concat([y, z, tf.nn.max_pool2d(x, 3, 2, "VALID")], 3)
        for scope, n in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            x = self.branches(
                x, f"Mixed_{scope}", [(a, 192, 1)],
                [(a, n, 1), ("Conv2d_0b_1x7", n, (1, 7)), ("Conv2d_0c_7x1", 192, (7, 1))],
                [(a, n, 1), ("Conv2d_0b_7x1", n, (7, 1)), ("Conv2d_0c_1x7", n, (1, 7)),
                 ("Conv2d_0d_7x1", n, (7, 1)), ("Conv2d_0e_1x7", 192, (1, 7))],
                ["pool", ("Conv2d_0b_1x1", 192, 1)],
            )  # fmt: skip
        y = self.conv(x, "Mixed_7a/Branch_0/" + a, 192, 1)
        y = self.conv(y, "Mixed_7a/Branch_0/Conv2d_1a_3x3", 320, 3, 2, "VALID")
        z = self.conv(x, "Mixed_7a/Branch_1/" + a, 192, 1)
        z = self.conv(z, "Mixed_7a/Branch_1/Conv2d_0b_1x7", 192, (1, 7))
        z = self.conv(z, "Mixed_7a/Branch_1/Conv2d_0c_7x1", 192, (7, 1))
        z = self.conv(z, "Mixed_7a/Branch_1/Conv2d_1a_3x3", 192, 3, 2, "VALID")
        x = tf.concat([y, z, tf.nn.max_pool2d(x, 3, 2, "VALID")], 3)
        for scope, second in (("Mixed_7b", "Conv2d_0b_3x1"), ("Mixed_7c", "Conv2d_0c_3x1")):
            both = [(1, 3), (3, 1)]
            x = self.branches(
                x, scope, [(a, 320, 1)], [(a, 384, 1), (("Conv2d_0b_1x3", second), 384, both)],
                [(a, 448, 1), ("Conv2d_0b_3x3", 384, 3),
                 (("Conv2d_0c_1x3", "Conv2d_0d_3x1"), 384, both)],
                ["pool", ("Conv2d_0b_1x1", 192, 1)],
            )  # fmt: skip
        return x


def im2txt(forget_bias: float = 1.0) -> v1.GraphDef:
    """The encoder as im2txt runs it: BasicLSTMCell's gates are input, new, forget, output."""
    rng = np.random.default_rng(1)
    with tf.Graph().as_default() as graph:
        encoded = v1.placeholder(tf.string, [], name="image_feed")
        image = tf.image.convert_image_dtype(tf.io.decode_png(encoded, 3), tf.float32)
        image = v1.image.resize_images(image, (346, 346), v1.image.ResizeMethod.BILINEAR)
        image = tf.image.resize_with_crop_or_pad(image, 299, 299)
        net = Slim()((image[None] - 0.5) * 2)
        features = tf.reshape(tf.reduce_mean(net, [1, 2]), [1, 2048])
        weights = rng.normal(0, 2 / 45, (2048, 512))
        embedded = features @ tf.constant(weights, tf.float32, name="image_embedding/weights")
        kernel = rng.normal(0, 1 / 32, (1024, 2048))
        kernel = tf.constant(kernel, tf.float32, name="lstm/basic_lstm_cell/kernel")
        bias = tf.constant(rng.normal(size=2048), tf.float32, name="lstm/basic_lstm_cell/bias")
        cell = hidden = tf.zeros([1, 512])
        i, new, forget, output = tf.split(tf.concat([embedded, hidden], 1) @ kernel + bias, 4, 1)
        cell = cell * tf.sigmoid(forget + forget_bias) + tf.sigmoid(i) * tf.tanh(new)
        hidden = tf.tanh(cell) * tf.sigmoid(output)
        tf.concat([cell, hidden], 1, name="lstm/initial_state")
        return graph.as_graph_def()


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    path = tmp_path_factory.mktemp("frozen") / "show-and-tell.pb"
    path.write_bytes(im2txt().SerializeToString())
    return path


@pytest.fixture(scope="module")
def photograph():
    return load_sample_image("china.jpg")


@pytest.fixture(scope="module")
def model(frozen, photograph):
    """The net of the frozen graph's weights."""
    made = registry.build("show_and_tell", photograph.shape, 8)
    registry.load_imagenet("show_and_tell", made, str(frozen))
    return made


def test_its_lstm_becomes_litert(model):
    """A loop over the one step would be a function of TensorFlow's, which no other runtime has."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    step = keras.Input((1, 512), name="step")
    lstm = keras.Model(step, model.get_layer("lstm")(step)[2])
    data = tf.lite.TFLiteConverter.from_keras_model(lstm).convert()
    interpreter = litert.Interpreter(model_content=data)
    x = np.random.default_rng(0).normal(size=(1, 1, 512)).astype(np.float32)
    (cell,) = interpreter.get_signature_runner()(step=x).values()
    assert np.allclose(cell, lstm(x), atol=1e-6)


def test_embedding_is_the_graphs(model, frozen, photograph):
    plain = v1.ConfigProto()  # rewriting the graph first takes longer than one answer
    plain.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Graph().as_default() as graph, v1.Session(graph=graph, config=plain) as session:
        tf.import_graph_def(v1.GraphDef.FromString(frozen.read_bytes()), name="")
        png = {"image_feed:0": tf.io.encode_png(photograph).eval()}
        expected = session.run("lstm/initial_state:0", png)
    encoder = keras.Model(model.input, model.get_layer("embedding").output)
    got = np.asarray(encoder(photograph[None]))
    assert got.shape == expected.shape == (1, 1024)
    assert expected.std() > 0.05 and np.abs(got - expected).max() < 1e-4


def test_gates_and_forget_bias(model, frozen):
    """The forget gate does not show in one step from the zero state; a second step needs it."""
    nodes = {n.name: n for n in v1.GraphDef.FromString(frozen.read_bytes()).node}
    kernel, bias = (tf.make_ndarray(nodes[f"lstm/basic_lstm_cell/{n}"].attr["value"].tensor)
                    for n in ("kernel", "bias"))  # fmt: skip
    steps = np.random.default_rng(2).normal(size=(1, 2, 512)).astype(np.float32)
    cell = hidden = np.zeros((1, 512))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    for step in range(2):
        joined = np.concatenate([steps[:, step], hidden], 1)
        i, new, forget, output = np.split(joined @ kernel + bias, 4, 1)
        cell = cell * sigmoid(forget + 1) + sigmoid(i) * np.tanh(new)
        hidden = np.tanh(cell) * sigmoid(output)
    got = model.get_layer("lstm")(steps)
    assert np.allclose(got[0], hidden, atol=1e-5) and np.allclose(got[2], cell, atol=1e-5)


def test_what_is_not_the_graph_is_refused(model, tmp_path):
    with pytest.raises(UserError, match="--weights show-and-tell.pb, or take another backbone"):
        registry.load_imagenet("show_and_tell", model)
    path = tmp_path / "other.pb"
    path.write_bytes(b"\xff\xfe not a graph")
    with pytest.raises(UserError, match="other.pb: not a frozen graph"):
        registry.load_imagenet("show_and_tell", model, str(path))
    path.write_bytes(v1.GraphDef().SerializeToString())
    with pytest.raises(UserError, match="no constant 'InceptionV3/InceptionV3/Conv2d_1a_3x3/wei"):
        registry.load_imagenet("show_and_tell", model, str(path))
    with pytest.raises(UserError, match="missing.pb: No such file"):
        registry.load_imagenet("show_and_tell", model, str(tmp_path / "missing.pb"))
