"""FractalNet (Larsson, Maire and Shakhnarovich, ICLR 2017, arXiv 1605.07648).

Blocks of C columns between poolings. A block from n to f channels with kernels k has C first
convolutions (k k n f weights each) and 2^C - 1 - C further ones (k k f f). For B = 5 and kernels of
3 the narrow nets of the paper's table 3 (16, 32, 64, 128, 128 filters, 100 classes) so have .3, .8,
2.1, 4.8 and 10.2 million weights for C = 1 to 5, as it says. The wide net (64, 128, 256, 512, 512)
has 33.7 million for C = 3, and 24.5 million with last kernels of 2x2, as the original project built
it. (DenseNet's table quotes 38.6 million for the wide net; no reading of the paper gave that.)
"""

from deepconnotation.backend import keras
from deepconnotation.console import UserError
from deepconnotation.models.inputs import pictures
from deepconnotation.models.layers import FractalBlock, GlobalPath

layers = keras.layers

WIDEST = 8  # times the first block's filters


def build(
    arch: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    grey: bool = False,
    blocks: int = 5,
    columns: int = 3,
    width: int = 64,
    dropout: float = 0.4,
    drop_path: float = 0.15,
    initializer: str = "he_normal",
    faithful_join: bool = False,
    deepest: bool = False,
    last_kernel: int = 2,
) -> keras.Model:
    """Build a FractalNet from pixels to logits.

    Args:
        arch: "fractal".
        input_shape: (height, width, 3), each side at least 2^blocks pixels.
        classes: number of classes.
        grey: look at the luma only.
        blocks: B; a max-pooling of 2 ends each.
        columns: C; the deepest path has B 2^(C-1) convolutions.
        width: filters of the first block; doubled at every later one up to eight times as many.
        dropout: rate in the last block; it rises evenly from 0 in the first (both papers: .4).
        drop_path: rate at which a join drops an input, in those batches that do not run on one
            column alone.
        initializer: "he_normal" (the original project) or "glorot_uniform" (the paper).
        faithful_join: the original project's join, whose gradient is NaN sooner or later.
        deepest: answer by the deepest column alone.
        last_kernel: side of the last block's convolutions (the original project: 2, as its last
            pictures are 2x2; the paper: 3).

    Returns:
        Model from (batch, height, width, 3), uint8 or float in 0..255, to float32 logits
        (batch, classes).

    Raises:
        UserError: when the pictures are too small for so many blocks.
    """
    if min(input_shape[:2]) < 2**blocks:
        size = f"{input_shape[0]}x{input_shape[1]}"
        raise UserError(f"--arch {arch} with {blocks} blocks needs pictures of at least "
                        f"{2**blocks} pixels; these have {size}")  # fmt: skip
    inputs, x = pictures(input_shape, grey)
    x = layers.Rescaling(1 / 64, offset=-2.0, name="normalise")(x)
    column = GlobalPath(columns, name="global_path")(x)
    for block in range(1, blocks + 1):
        x = FractalBlock(
            width * min(2 ** (block - 1), WIDEST), columns, last_kernel if block == blocks else 3,
            dropout * (block - 1) / max(blocks - 1, 1), drop_path, initializer, faithful_join,
            deepest, name=f"block{block}",
        )(x, column)  # fmt: skip
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.Flatten(name="embedding")(x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=arch)
