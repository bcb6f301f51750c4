"""The forms of `export`: each writes a run and returns what asks the file it wrote."""

import io
import json
import shutil
import zipfile
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np

from deepconnotation import card, fast, litert, run, seen
from deepconnotation.answer import answers_of
from deepconnotation.backend import keras, tf
from deepconnotation.console import UserError, file_atomic, folder_atomic, quiet, write_atomic
from deepconnotation.data import manifest, pipeline
from deepconnotation.export import Probabilities, put_inside

CALIBRATION = 200  # pictures that show int8 the range of each layer
DIGITS = 7  # binary digits of a weight's fraction that `small` keeps
BATCH = 32


def keras_file(found: run.Run, folder: Path, info: str) -> tuple[Path, Probabilities]:
    """A Keras model in float32, to probabilities, followed by valence and arousal."""
    path = folder / "model.keras"
    run.save_model(_whole(found), path)
    put_inside(path, info)
    model = keras.saving.load_model(path, compile=False)
    return path, lambda images: np.asarray(keras.tree.flatten(model(images))[0])


def _whole(found: run.Run) -> keras.Model:
    """Return the run's model with mirror image and temperature in it."""
    images = keras.Input((*found.size, 3), name="images")
    views = [images, keras.ops.flip(images, axis=2)] if found.test_flip else [images]
    told = [keras.tree.flatten(found.model(view)) for view in views]
    activate = keras.ops.sigmoid if found.multi_label else keras.ops.softmax
    p = sum(activate(outputs[0]) for outputs in told) / len(views)
    if found.temperature != 1:
        p = keras.ops.softmax(keras.ops.log(keras.ops.maximum(p, 1e-30)) / found.temperature)
    affect = [sum(outputs[1] for outputs in told) / len(views)] if found.axes else []
    return keras.Model(images, [p, *affect] if affect else p)


def savedmodel(found: run.Run, folder: Path, info: str) -> tuple[Path, Probabilities]:
    """A TensorFlow SavedModel with two signatures: JPEG files, and pixels. They tell probabilities
    and, where the run does, "affect": valence and arousal."""
    path = folder / "savedmodel"
    pixels, classes = litert.frozen(found), len(found.classes)
    height, width = found.size

    class Serving(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, height, width, 3), tf.float32)])
        def pixels(self, images):
            told = pixels(images)[0]
            affect = {"affect": told[:, classes:]} if found.axes else {}
            return {"probabilities": tf.exp(told[:, :classes]), **affect,
                    "classes": tf.constant(found.classes)}  # fmt: skip

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "jpeg")])
        def jpeg(self, files):
            def one(data):
                # As Pillow decodes, to the bit; never decode_image, which some WebP files crash.
                image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
                image = tf.image.resize(image, (height, width), "lanczos3", antialias=True)
                return tf.clip_by_value(tf.round(image), 0, 255)

            return self.pixels(tf.map_fn(one, files, fn_output_signature=tf.float32))

    module = Serving()
    shutil.rmtree(path, ignore_errors=True)
    with quiet():
        tf.saved_model.save(
            module, str(path), {"serving_default": module.jpeg, "pixels": module.pixels},
            # Of a frozen swish TensorFlow could not write it, and nobody learns from this form.
            tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )  # fmt: skip
        loaded = tf.saved_model.load(str(path))
    write_atomic(path / "assets.extra" / "deepconnotation.json", info)
    ask = loaded.signatures["pixels"]
    return path, lambda images: ask(tf.cast(images, tf.float32))["probabilities"].numpy()


def onnx(found: run.Run, folder: Path, info: str) -> tuple[Path, Probabilities]:
    """ONNX, opset 18, to probabilities and, where the run tells them, valence and arousal."""
    package, tf2onnx, runtime = (_needs(name) for name in ("onnx", "tf2onnx", "onnxruntime"))
    path, pixels, classes = folder / "model.onnx", litert.frozen(found), len(found.classes)

    @tf.function(input_signature=[tf.TensorSpec((None, *found.size, 3), tf.float32, "images")])
    def told(images):
        every = pixels(images)[0]
        p = tf.identity(tf.exp(every[:, :classes]), "probabilities")
        return (p, tf.identity(every[:, classes:], "affect")) if found.axes else p

    with quiet():
        made, _ = tf2onnx.convert.from_function(told, told.input_signature, 18)
    made.metadata_props.add(key="deepconnotation", value=info)
    write_atomic(path, made.SerializeToString())
    package.checker.check_model(str(path))
    session = runtime.InferenceSession(str(path))
    name = session.get_inputs()[0].name
    return path, lambda images: session.run(None, {name: images.astype(np.float32)})[0]


def litert_file(found: run.Run, folder: Path, info: str) -> tuple[Path, Probabilities]:
    """LiteRT in float32, to log-probabilities, followed by valence and arousal."""
    return _litert(found, folder / "model.tflite", litert.convert(found), info)


def int8(found: run.Run, folder: Path, info: str) -> tuple[Path, Probabilities]:
    """LiteRT with weights and sums in 8 bits, a quarter of the size."""
    dataset = found.config["data"]["path"]
    if not manifest.exists(dataset):
        raise UserError(f"--to int8: {dataset} is not there; its training pictures show the range "
                        "of each layer")  # fmt: skip
    images = pipeline.load(dataset, "train", found.classes).images
    order = np.random.default_rng(0).permutation(len(images))[:CALIBRATION]
    shown = (images[i : i + 1].astype(np.float32) for i in np.sort(order))
    return _litert(found, folder / "model-int8.tflite", litert.convert(found, shown), info)


def _litert(
    found: run.Run, path: Path, data: bytes, info: str
) -> tuple[Path, Probabilities]:  # fmt: skip
    _needs("ai_edge_litert")
    write_atomic(path, data)
    put_inside(path, info)
    ask = fast.LiteRT(path, len(found.classes))
    return path, lambda images: np.exp(ask(images)[0])


def small(found: run.Run, folder: Path, info: str) -> tuple[Path, Probabilities]:
    """A run folder whose weights keep `DIGITS` binary digits of their fraction, packed."""
    if any(folder.iterdir()):
        raise UserError(f"--out {folder} exists already; choose another name")
    with folder_atomic(folder) as partial:
        path = partial / "model.keras"
        run.save_model(found.model, path)
        _round_weights(path)
        seen.write(partial, seen.of(found))
        made = run.Run(partial, found.config).update(model_sha256=run.file_sha256(path))
        figures = found.path / "metrics.json"
        if figures.exists():
            card.write(made, json.loads(figures.read_text("utf-8")))
    answer = answers_of(run.load(folder))
    return folder / path.name, lambda images: np.exp(answer(images)[0].numpy())


def _round_weights(path: Path) -> None:
    """Rewrite a .keras file with weights in 16 bits, of which the last ones are 0, compressed."""
    with file_atomic(path) as partial, zipfile.ZipFile(path) as old, \
            zipfile.ZipFile(partial, "w") as new:  # fmt: skip
        for name in old.namelist():
            data = old.read(name)
            if name.endswith(".weights.h5"):
                data = _round_h5(data)
            new.writestr(name, data, zipfile.ZIP_DEFLATED)


def _round_h5(data: bytes) -> bytes:
    made = io.BytesIO()
    with h5py.File(io.BytesIO(data)) as old, h5py.File(made, "w") as new:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                target = new.require_group(name)
            elif item.dtype == np.float32 and item.ndim:
                values = _rounded(item[...])
                target = new.create_dataset(name, data=values, shuffle=True, compression=9)
            else:
                target = new.create_dataset(name, data=item[...])
            target.attrs.update(item.attrs)

        old.visititems(copy)
        new.attrs.update(old.attrs)
    return made.getvalue()


def _rounded(values: np.ndarray) -> np.ndarray:
    """Return float16 (float32 where that is too narrow) with `DIGITS` digits of the fraction."""
    fraction, exponent = np.frexp(values)
    values = np.ldexp(np.round(fraction * 2 ** (DIGITS + 1)) / 2 ** (DIGITS + 1), exponent)
    large = np.abs(values).max(initial=0) > np.finfo(np.float16).max
    return values.astype(np.float32 if large else np.float16)


def _needs(package: str):
    try:
        return import_module(package)
    except ImportError:
        raise UserError(f"the package {package} is not installed; it comes with "
                        "pip install deepconnotation[export]") from None  # fmt: skip


#: form -> what writes it
FORMS = {"keras": keras_file, "savedmodel": savedmodel, "onnx": onnx, "litert": litert_file,
         "int8": int8, "small": small}  # fmt: skip
