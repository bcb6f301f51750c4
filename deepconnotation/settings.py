"""Every setting of a training run, kept in run.json."""

from argparse import ArgumentTypeError
from dataclasses import dataclass, field, fields

from deepconnotation.console import SEEDS, UserError

OPTIMIZERS = ("adam", "adamw", "sgd")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
MONITORS = ("val_loss", "val_accuracy", "val_balanced_accuracy", "val_ccc")
AFFECT = ("none", "l1", "l2", "ccc")


def _(default, text, choices=None, metavar=None, kind=None):
    kind = kind or type(default)
    return field(default=default, metadata={"help": text, "choices": choices, "metavar": metavar,
                                            "kind": kind})  # fmt: skip


CLASSIFIER_WIDTHS = (25, 12)  # of the original project's classifier on embeddings


def widths(text: str) -> tuple[int, ...]:
    """Return the numbers of "4096,256"; for argparse.

    Raises:
        ArgumentTypeError: when they are not numbers from 1 to 65,536.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() and 1 <= int(word) <= 65_536 for word in words):
        raise ArgumentTypeError(f"{text!r}: expected numbers from 1 to 65536, like 4096,256")
    return tuple(int(word) for word in words)


@dataclass(frozen=True)
class Settings:
    """Settings of a run; the metadata of a field is its help on the command line.

    The defaults build the published network (original stem, 64 filters) and train it by the
    schedule under which small ResNets do well: SGD, warm-up, cosine (README has whole recipes).
    """

    epochs: int = _(15, "epochs at most")
    batch: int = _(64, "pictures a step")
    optimizer: str = _("sgd", "sgd is with Nesterov momentum .9", OPTIMIZERS)
    rate: float = _(0.1, "highest learning rate")
    schedule: str = _("cosine", "how the rate moves", ("constant", "cosine", "step"))
    milestones: str = _("50,75", "per cent of all steps after which `step` divides the rate by ten")
    warmup: float = _(1.0, "epochs in which the rate climbs to its highest")
    plateau: int = _(0, "epochs without a better monitored figure before the rate falls to .316 of "
                        "itself; 0 never")  # fmt: skip
    patience: int = _(0, "epochs without a better monitored figure before training stops; 0 never")
    monitor: str = _("val_loss", "dev figure that chooses the best epoch", MONITORS)
    weight_decay: float = _(0.0, "decoupled weight decay (adamw and sgd)")
    clip: float = _(5.0, "largest norm of all gradients together; 0 leaves them alone")
    label_smoothing: float = _(0.0, "probability spread over all classes")
    rand_augment: float = _(0.0, "strength of RandAugment (Cubuk et al. 2020), 0 to 1; 0 is off")
    mixup: float = _(0.0, "alpha of mixup; 0 is off")
    cutmix: float = _(0.0, "alpha of CutMix; 0 is off")
    distributions: bool = _(False, "learn the shares of viewers who chose each class, or a run's "
                                   "answer (pseudo), where the data tell them, instead of the "
                                   "label")  # fmt: skip
    multi_label: bool = _(False, "several labels a picture: every class that somebody chose, with "
                                 "thresholds from the dev split")  # fmt: skip
    votes: bool = _(False, "weigh a picture by the share of voters who agreed with its label")
    ema: float = _(0.0, "decay a step of averaged weights, which then answer for the run; 0 is off")
    class_weights: str = _("none", "none, inverse, sqrt, effective[:BETA], learned[:BOUND], or one "
                                   "number a class", metavar="W")  # fmt: skip
    focal: float = _(0.0, "gamma of the focal loss; 0 is off")
    logit_adjustment: float = _(0.0, "times the logarithm of the classes' shares is added to the "
                                     "logits in the loss; 0 is off, 1 evens the classes")
    balanced_sampling: float = _(0.0, "draw classes equally often, but no class more than N times "
                                      "as often as it occurs; 0 is off", metavar="N")  # fmt: skip
    polarity: float = _(0.0, "share by which a picture's loss grows where its answer has the wrong "
                             "polarity")
    wheel: float = _(0.0, "weight of the expected distance on Mikels' wheel in the loss")
    affect: str = _("none", "loss of a second head that tells valence and arousal; missing values "
                            "count nowhere", AFFECT)  # fmt: skip
    affect_share: float = _(0.5, "of that head in the whole loss; 1 learns no classes")
    teacher_share: float = _(0.7, "of the teacher's answer in the target; the rest is the label")
    flip: bool = _(True, "mirror half of the training pictures")
    shift: float = _(0.1, "largest random move, share of the side")
    rotate: float = _(0.0, "largest random turn, degrees")
    zoom: float = _(0.0, "largest random zoom, share")
    cutout: float = _(0.0, "side of a random square that is blanked, share")
    contrast: float = _(0.0, "largest random change of contrast and brightness, share")
    test_flip: bool = _(False, "average each answer with that on the mirror image: slower, and "
                               "mostly better")  # fmt: skip
    stem: str = _("7x7", "7x7 with stride 2 and max-pool (published), or 3x3", ("7x7", "3x3"))
    width: int = _(64, "filters of the first stage")
    blocks: int = _(5, "blocks of a fractal net")
    columns: int = _(3, "columns of a fractal net")
    drop_path: float = _(0.15, "rate at which a fractal join drops an input")
    initializer: str = _("he_normal", "of a fractal net; the paper: glorot_uniform",
                         ("he_normal", "glorot_uniform"))  # fmt: skip
    faithful_join: bool = _(False, "join fractals as the original did, whose gradient becomes NaN")
    faithful_input: bool = _(False, "divide pictures by 255 before the net does what it needs, as "
                                    "an original did")  # fmt: skip
    deepest: bool = _(False, "answer by a fractal net's deepest column alone")
    stages: int = _(7, "stages of EfficientNet-Lite0; fewer are a smaller net, without its last "
                       "convolution")  # fmt: skip
    pooling: str = _("avg", "how a transferred net's last map becomes features: its mean, or all "
                            "of it", ("avg", "flatten"))  # fmt: skip
    head: tuple[int, ...] = _((), "units of hidden layers in a transferred net's head, like "
                                  "4096,256", metavar="N,N", kind=widths)  # fmt: skip
    freeze_until: str = _("", "layer, or beginning of layers' names like block3, up to which "
                              "nothing learns", metavar="LAYER")  # fmt: skip
    head_epochs: int = _(0, "first epochs, in which only the layers after the embedding learn; "
                            "batch normalisation before it keeps its statistics")  # fmt: skip
    fine_tune: float = _(0.1, "times the rate, at which all layers learn after --head-epochs")
    stochastic_depth: float = _(0.0, "rate at which a residual block of the last stage is left "
                                     "out for a picture, rising from 0 in the first")  # fmt: skip
    dropout: float | None = _(None, "dropout rate in the net; as published where not given",
                              metavar="RATE", kind=float)  # fmt: skip
    l2: float | None = _(None, "L2 penalty on the kernels; as published where not given",
                         metavar="L2", kind=float)  # fmt: skip
    precision: str = _("auto", "auto takes bfloat16 where the processor has it",
                       PRECISIONS)  # fmt: skip
    seed: int = _(0, "of weights, order and augmentation")
    deterministic: bool = _(False, "the same bits at every repeat, slower")

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            UserError: naming the flag.
        """
        limits = {
            "epochs": (1, 100_000), "batch": (1, 65_536), "rate": (1e-9, 100.0), "clip": (0, 1e9),
            "label_smoothing": (0, 0.9), "rand_augment": (0, 1), "mixup": (0, 10),
            "cutmix": (0, 10), "ema": (0, 0.999999), "stochastic_depth": (0, 0.95),
            "teacher_share": (0, 1), "affect_share": (0, 1), "shift": (0, 1), "rotate": (0, 180),
            "zoom": (0, 2), "cutout": (0, 1), "contrast": (0, 1), "dropout": (0, 0.95),
            "l2": (0, 10), "width": (1, 1024), "blocks": (1, 8), "columns": (1, 6),
            "stages": (2, 7),
            "drop_path": (0, 0.95), "head_epochs": (0, 100_000), "focal": (0, 10),
            "polarity": (0, 100), "wheel": (0, 100),
            "logit_adjustment": (0, 10), "balanced_sampling": (0, 1e6), "fine_tune": (1e-6, 1),
            "warmup": (0, 100_000), "weight_decay": (0, 10),
            "plateau": (0, 100_000), "patience": (0, 100_000), "seed": SEEDS,
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} {value}: expected a number from {low} to {high}")
        if self.multi_label:
            for name in ("focal", "logit_adjustment", "polarity", "wheel", "distributions"):
                if getattr(self, name):
                    raise UserError(f"--multi-label: --{name.replace('_', '-')} is for one label a "
                                    "picture")  # fmt: skip
        if self.affect != "none" and (self.mixup or self.cutmix):
            raise UserError("--affect: valence and arousal of mixed pictures are not known; leave "
                            "out --mixup and --cutmix")  # fmt: skip
        if self.affect != "none" and self.affect_share == 1 and self.monitor != "val_ccc":
            raise UserError(f"--monitor {self.monitor}: --affect-share 1 learns no classes; give "
                            "--monitor val_ccc")  # fmt: skip
        if self.affect == "none" and self.monitor == "val_ccc":
            raise UserError("--monitor val_ccc: only with --affect")
        try:
            inside = all(0 < float(m) < 100 for m in self.milestones.split(","))
        except ValueError:
            inside = False
        if not inside:
            raise UserError(f"--milestones {self.milestones!r}: expected per cents like 50,75")

    @classmethod
    def from_dict(cls, values: dict) -> "Settings":
        """Take the fields of this class out of a dictionary."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in known.items()})
