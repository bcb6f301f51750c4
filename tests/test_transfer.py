"""Transferred nets against keras.applications itself, with the same weights."""

import http.server
import threading

import h5py
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from deepconnotation import train
from deepconnotation.backend import keras, tf
from deepconnotation.console import UserError
from deepconnotation.models import registry, transfer
from deepconnotation.models.precision import in_float32
from deepconnotation.settings import Settings

PUBLISHED = {
    "vgg16": (keras.applications.vgg16, "VGG16"),
    "resnet50_imagenet": (keras.applications.resnet, "ResNet50"),
    "inception_v3": (keras.applications.inception_v3, "InceptionV3"),
    "mobilenet_v2": (keras.applications.mobilenet_v2, "MobileNetV2"),
    "efficientnet_b0": (keras.applications.efficientnet, "EfficientNetB0"),
}
SIZE = 96


def photographs() -> np.ndarray:
    names = ("china.jpg", "flower.jpg")
    return np.stack([load_sample_image(n)[100 : 100 + SIZE, 200 : 200 + SIZE] for n in names])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Writes Keras' kind of weights file for a net with random weights, and returns the net."""

    def write(arch: str):
        module, make = PUBLISHED[arch]
        keras.utils.set_random_seed(1)
        net = getattr(module, make)(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
        rng = np.random.default_rng(0)
        for layer in net.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.set_weights([rng.uniform(0.8, 1.2, w.shape) for w in layer.get_weights()])
        path = tmp_path_factory.mktemp("weights") / f"{arch}_notop.h5"
        with h5py.File(path, "w") as file:  # the format of the published files
            keras.src.legacy.saving.legacy_h5_format.save_weights_to_hdf5_group(file, net)
        return net, path

    return write


@pytest.mark.parametrize("arch", PUBLISHED)
def test_outputs_are_those_of_keras_applications(arch, weights):
    net, path = weights(arch)
    pixels = photographs().astype(np.float32)
    if arch == "efficientnet_b0":  # normalises inside, as its ImageNet weights have learned
        layer = next(x for x in net.layers if isinstance(x, keras.layers.Normalization))
        layer.mean = tf.constant([0.485, 0.456, 0.406])
        layer.variance = tf.square([0.229, 0.224, 0.225])
    prepared = PUBLISHED[arch][0].preprocess_input(pixels.copy())
    expected = np.asarray(net(prepared)).mean(axis=(1, 2))
    model = registry.build(arch, (SIZE, SIZE, 3), 7)
    head = model.get_layer("logits").get_weights()[0]
    registry.load_imagenet(arch, model, str(path))
    features = keras.Model(model.input, model.get_layer("embedding").output)
    for images in (pixels, photographs()):
        got = np.asarray(features(images))
        assert np.abs(got - expected).max() < 1e-5 * max(np.abs(expected).max(), 1)
    assert (model.get_layer("logits").get_weights()[0] == head).all()


def test_a_net_of_half_precision_normalises_the_same_in_float32():
    """EfficientNet's own layer, which computes with a copy of its weights."""
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")  # conftest.py sets it back
    model = registry.build("efficientnet_b0", (SIZE, SIZE, 3), 7)
    answers = np.asarray(model(photographs()))
    full = np.asarray(in_float32(model)(photographs()))
    assert np.abs(full - answers).max() < 0.1 * np.abs(answers).max()


def test_names_do_not_depend_on_what_was_built_before():
    first, second = (transfer.build("inception_v3", (96, 96, 3), 8) for _ in range(2))
    names = [layer.name for layer in first.layers]
    assert names == [layer.name for layer in second.layers] and "conv2d_94" in names


def test_grey_pictures_look_grey():
    model = transfer.build("mobilenet_v2", (32, 32, 3), 8, grey=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    luma = (pixels @ [0.2989, 0.587, 0.114])[..., None].repeat(3, axis=-1) / 0.9999
    assert np.allclose(model(pixels), model(luma.astype(np.float32)), atol=1e-3)


def test_small_pictures_are_refused():
    with pytest.raises(UserError, match="inception_v3 needs .* at least 75 pixels; .* 64x64"):
        registry.build("inception_v3", (64, 64, 3), 8)


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    """Keras looks for its files in an empty folder; ours is not touched."""
    monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(tmp_path))
    return tmp_path


def test_weights_are_downloaded_once(weights, keras_home, monkeypatch):
    net, path = weights("mobilenet_v2")
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    module = keras.src.applications.mobilenet_v2
    monkeypatch.setattr(module, "BASE_WEIGHT_PATH", f"http://127.0.0.1:{server.server_port}/")
    model = registry.build("mobilenet_v2", (64, 64, 3), 7)
    for _ in range(2):
        registry.load_imagenet("mobilenet_v2", model)
    server.shutdown()
    assert asked == [f"/{name}"]
    ours, theirs = (m.get_layer("block_3_project").get_weights()[0] for m in (model, net))
    assert (ours == theirs).all()


def test_offline_says_how_to_place_the_file_by_hand(keras_home, monkeypatch):
    monkeypatch.setattr(
        keras.src.applications.mobilenet_v2, "BASE_WEIGHT_PATH", "http://127.0.0.1:9/"
    )
    model = registry.build("mobilenet_v2", (64, 64, 3), 7)
    pattern = r"http://127.0.0.1:9/mobilenet.*no_top.h5 cannot be downloaded.*~/.keras/models$"
    with pytest.raises(UserError, match=pattern):
        registry.load_imagenet("mobilenet_v2", model)


def test_a_file_of_another_net_is_refused(weights):
    _, path = weights("mobilenet_v2")
    model = registry.build("efficientnet_b0", (64, 64, 3), 7)
    with pytest.raises(UserError, match="not a weights file of this architecture"):
        registry.load_imagenet("efficientnet_b0", model, str(path))


def test_weights_that_do_not_fit_leave_no_run_folder(toy_data, tmp_path):
    path = tmp_path / "other.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="not a checkpoint"):
        train.start("efficientnet_lite0", toy_data, tmp_path / "run", Settings(epochs=1), str(path))
    assert not (tmp_path / "run").exists()
