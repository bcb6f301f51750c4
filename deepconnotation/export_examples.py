"""Programs that use what `export` writes, without this package: python example_FORM.py photo.jpg"""

_PICTURE = '''
def picture(path, size):
    """As the model was trained: upright, RGB, resized by Lanczos."""
    image = ImageOps.exif_transpose(Image.open(path)).convert(MODE).convert("RGB")
    return np.asarray(image.resize(size[::-1], Image.Resampling.LANCZOS), np.float32)[None]
'''
_TELL = '''
for name, p in sorted(zip(info["classes"], probabilities, strict=True), key=lambda row: -row[1]):
    print(f"{name:14}{p:.3f}")
for name, value in zip(info["axes"], affect, strict=True):
    print(f"{name:14}{value:+.3f}")
'''
_INSIDE = '''
with zipfile.ZipFile(model) as file:
    info = json.loads(file.read("deepconnotation.json"))
'''
_READ = '''
MODE = "L" if info["grey"] else "RGB"
pixels = picture(sys.argv[1], (info["height"], info["width"]))
'''
_HERE = 'model = str(Path(__file__).with_name("{}"))'


def _program(imports: str, file: str, load: str, ask: str) -> str:
    parts = (f'"""Which emotion? python {{file}} photo.jpg"""\n\n{imports}',
             _PICTURE.strip(), f"{_HERE.format(file)}{load}{_READ}{ask}{_TELL}")  # fmt: skip
    return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


_COMMON = """import json
import sys
import zipfile
from pathlib import Path

import numpy as np
"""
_PIL = "from PIL import Image, ImageOps\n"


def _litert(file: str) -> str:
    return _program(
        _COMMON + "from ai_edge_litert.interpreter import Interpreter\n" + _PIL, file, _INSIDE,
        "net = Interpreter(model)\n"
        'net.resize_tensor_input(net.get_input_details()[0]["index"], pixels.shape)\n'
        "net.allocate_tensors()\n"
        'net.set_tensor(net.get_input_details()[0]["index"], pixels)\n'
        "net.invoke()\n"
        'found = net.get_tensor(net.get_output_details()[0]["index"])[0]\n'
        'classes = len(info["classes"])\n'
        "probabilities, affect = np.exp(found[:classes]), found[classes:]",
    )  # fmt: skip


#: form -> the program
EXAMPLES = {
    "keras": _program(
        _COMMON.replace("import numpy", "import keras\nimport numpy") + _PIL, "model.keras",
        _INSIDE,
        "net = keras.saving.load_model(model, compile=False)\n"
        "probabilities, *more = [np.asarray(told)[0] for told in keras.tree.flatten(net(pixels))]\n"
        "affect = more[0] if more else []",
    ),
    "savedmodel": (
        '"""Which emotion? python example_savedmodel.py photo.jpg"""\n\n'
        "import sys\nfrom pathlib import Path\n\nimport tensorflow as tf\n\n"
        'model = tf.saved_model.load(str(Path(__file__).with_name("savedmodel")))\n'
        "jpeg = tf.constant([Path(sys.argv[1]).read_bytes()])\n"
        'found = model.signatures["serving_default"](jpeg)\n'
        'names = [name.decode() for name in found["classes"].numpy()]\n'
        'rows = zip(names, found["probabilities"].numpy()[0], strict=True)\n'
        "for name, p in sorted(rows, key=lambda row: -row[1]):\n"
        '    print(f"{name:14}{p:.3f}")\n'
        'if "affect" in found:\n'
        '    for name, value in zip(("valence", "arousal"), found["affect"].numpy()[0]):\n'
        '        print(f"{name:14}{value:+.3f}")\n'
    ),
    "onnx": _program(
        _COMMON.replace("import zipfile\n", "") + "import onnxruntime\n" + _PIL, "model.onnx",
        "\nnet = onnxruntime.InferenceSession(model)\n"
        'info = json.loads(net.get_modelmeta().custom_metadata_map["deepconnotation"])\n',
        "probabilities, *more = (t[0] for t in net.run(None, {net.get_inputs()[0].name: pixels}))\n"
        "affect = more[0] if more else []",
    ),
    "litert": _litert("model.tflite"),
    "int8": _litert("model-int8.tflite"),
}  # fmt: skip
