"""Every published row of the original projects and of You et al.: its figure, and how it is run.

The figures and their sources are those of the projects' own reports (shared facts A to E).
"""

from dataclasses import dataclass, replace

from deepconnotation.presets import PRESETS

#: data -> its place among the sources, how it is laid out, and where it is to be had
SOURCES = {
    "fi": ("fi/images", "fi", "FI (You et al. 2016), a folder a class: ask its authors "
           "(https://qzyou.github.io), or fetch the list of addresses with "
           "deepconnotation prepare"),
    "affectnet": ("affectnet", "affectnet", "AffectNet: ask for it at "
                  "http://mohammadmahoor.com/affectnet"),
    "facial_expressions": ("facial_expressions", "facial_expressions",
                           "git clone https://github.com/muxspace/facial_expressions"),
}  # fmt: skip
SHOW_AND_TELL = "show-and-tell.pb"  # among the sources, too


@dataclass(frozen=True)
class Data:
    """How a row's data set is made.

    Attributes:
        source: a key of `SOURCES`.
        size: of the pictures, pixels.
        fractions: of the splits.
        emotions: variant of the label set; "" takes the source's own.
        drop: classes left out.
        grey: whether pictures are made grey.
        as_published: nothing left out, split by picture.
        then: what `data.published` does afterwards: "fill_up", "leak", "swap", "cut:N".
    """

    source: str
    size: int
    fractions: str = "80/10/10"
    emotions: str = ""
    drop: tuple[str, ...] = ()
    grey: bool = False
    as_published: bool = False
    then: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its folder."""
        words = [self.emotions or self.source, str(self.size), self.fractions.replace("/", "-"),
                 *(f"no-{each}" for each in self.drop)]  # fmt: skip
        words += ["grey"] if self.grey else []
        words += ["as-published"] if self.as_published else []
        return "-".join([*words, *(each.replace(":", "-") for each in self.then)])


@dataclass(frozen=True)
class Row:
    """A published figure.

    Attributes:
        name: on the command line.
        project: whose it is.
        what: net and setting, in words.
        figure: as published: an accuracy.
        measured: on what, in words.
        faithful: its data set with the mistakes of the original, or why it cannot be had.
        honest: its data set without them.
        command: arguments of train, or of embed where they begin with "embed".
        mistakes: arguments that only the faithful form has.
    """

    name: str
    project: str
    what: str
    figure: str
    measured: str
    faithful: Data | str
    honest: Data | str
    command: str
    mistakes: str = ""


B, C, D, E = "DeepConnotation", "AffectNet with VGG16", "Emotion_Image_Classifier", (
    "Emotion-Classifier")  # fmt: skip
_FI = Data("fi", 32)
_B_RESNET = PRESETS["deepconnotation-resnet"].replace("--epochs 200", "--epochs 30")
_FEW, _SOME = ("cut:1000",), ("cut:10000",)  # training pictures that a project took
_C_VGG = PRESETS["affectnet-vgg16"]
_AFFECTNET = Data("affectnet", 224, emotions="affectnet8")
_NO_ALEXNET = "the net is Caffe's AlexNet, whose weights no package registry holds"


def _as_published(data: Data, *then: str) -> Data:
    return replace(data, as_published=True, then=then)


def _resnet(
    name: str, what: str, figure: str, change: str, arch: str = "resnet18", size: int = 32,
    then: tuple[str, ...] = (),
) -> Row:  # fmt: skip
    data = replace(_FI, size=size, then=then)
    command = _B_RESNET.replace("--arch resnet18", f"--arch {arch}") + change
    return Row(name, B, what, figure, "dev", _as_published(data, *then), data, command)


ROWS = (
    Row("fi-imagenet-cnn", "You et al. 2016", "ImageNet features, linear", ".321", "test",
        _NO_ALEXNET, replace(_FI, size=192), "embed efficientnet_lite0"),
    Row("fi-noisy-cnn", "You et al. 2016", "fine-tuned on noisy labels", ".458", "test",
        _NO_ALEXNET, "the weakly labelled pictures are not part of the published data", ""),
    Row("fi-fine-tuned-cnn", "You et al. 2016", "fine-tuned", ".583", "test", _NO_ALEXNET,
        replace(_FI, size=192), "--arch efficientnet_lite0 --weights imagenet "
        "--freeze-until stage2 --head-epochs 1 --epochs 7 --optimizer adamw --weight-decay 0.02 "
        "--rate 2e-3 --fine-tune 0.15 --ema 0.998 --label-smoothing 0.1 --dropout 0.3 "
        "--stochastic-depth 0.1 --zoom 0.2 --contrast 0.2 --monitor val_accuracy --test-flip"),
    Row("resnet18", B, "ResNet-18, 32 px, final", ".24", "test", _as_published(_FI), _FI,
        _B_RESNET),
    _resnet("resnet18-dropout-0.1", "ResNet-18, dropout .1", ".196", " --dropout 0.1"),
    _resnet("resnet18-dropout-0.2", "ResNet-18, dropout .2", ".188", " --dropout 0.2"),
    _resnet("resnet18-dropout-0.5", "ResNet-18, dropout .5", ".184", " --dropout 0.5"),
    _resnet("resnet18-64px", "ResNet-18, 64 px", ".179", "", size=64),
    _resnet("resnet34", "ResNet-34, 10,000 pictures", ".133", "", "resnet34",
            then=_SOME),
    _resnet("resnet50", "ResNet-50, 10,000 pictures", ".134", "", "resnet50",
            then=_SOME),
    Row("fractal", B, "FractalNet, 1,000 pictures", ".13", "training; NaN in epoch 1",
        _as_published(_FI, *_FEW), replace(_FI, then=_FEW),
        PRESETS["deepconnotation-fractal"].replace("400", "10"), "--faithful-join"),
    Row("show-and-tell", B, "Show-and-Tell embeddings, 25-12-8", ".18", "test (.46 training, .20 "
        "dev)", _as_published(replace(_FI, size=346), "swap"), replace(_FI, size=346),
        "embed show_and_tell"),
    Row("vgg16-frozen", C, "VGG16 frozen, SGD", ".30-.35", "validation",
        _as_published(_AFFECTNET), _AFFECTNET, _C_VGG.replace("block3", "block5").replace(
            "--optimizer adam --rate 1e-4", "--optimizer sgd --rate 1e-3").replace(
            " --class-weights .1,.1,.5,.5,.8,.99,.5,.99", "").replace("--rotate 45", "--no-flip")),
    Row("vgg16-adam", C, "Adam 1e-4, batch 16", ".48", "validation",
        _as_published(_AFFECTNET), _AFFECTNET, _C_VGG.replace("--batch 64", "--batch 16").replace(
            " --class-weights .1,.1,.5,.5,.8,.99,.5,.99", "").replace("--rotate 45", "--no-flip")),
    Row("vgg16-augmented", C, "flips and rotations", ".47-.50", "validation",
        _as_published(_AFFECTNET), _AFFECTNET,
        _C_VGG.replace(" --class-weights .1,.1,.5,.5,.8,.99,.5,.99", "")),
    Row("vgg16-upsampled", C, "upsampled to 20,000 a class, weighted", ".52", "validation",
        _as_published(_AFFECTNET), _AFFECTNET, f"{_C_VGG} --balanced-sampling 5"),
    Row("vgg16-weighted", C, "weighted, flips, rotation, batch 64", ".554", "validation",
        _as_published(_AFFECTNET), _AFFECTNET, _C_VGG),
    Row("model-4", D, "\"VGG type\", six classes", ".633", "test (balanced .423)",
        _as_published(Data("affectnet", 256, emotions="affectnet6")),
        Data("affectnet", 256, emotions="affectnet6"), PRESETS["emotion-image-vgg"],
        "--faithful-input"),
    Row("model-6", D, "ResNet-50 from ImageNet, five classes", ".568", "test",
        _as_published(Data("affectnet", 224, emotions="affectnet5")),
        Data("affectnet", 224, emotions="affectnet5"), PRESETS["emotion-image-resnet50"],
        "--faithful-input"),
    Row("keras-cnn", E, "Keras CNN, 50 px, eight classes", ".565", "validation, synthesised",
        _as_published(Data("facial_expressions", 50, "60/40"), "fill_up"),
        Data("facial_expressions", 50, "72/8/20", drop=("contempt",), grey=True),
        PRESETS["facial-expressions-cnn"]),
    Row("sagemaker", E, "SageMaker image classification", ".81", "validation, seen in training",
        _as_published(Data("facial_expressions", 64, "60/40"), "fill_up", "leak"),
        Data("facial_expressions", 64, "72/8/20", drop=("contempt",), grey=True),
        "--arch resnet --width 32 --epochs 6 --shift 0.08 --rotate 10 --zoom 0.1 --l2 2.5e-4"),
    Row("rekognition", E, "Amazon Rekognition, first emotion", ".599", "all pictures",
        "Rekognition needs an account at AWS; nothing was sent there", "the same", ""),
)  # fmt: skip
