"""The architecture as a figure and as text."""

import pytest

from deepconnotation import ensemble
from deepconnotation.models import figure, registry


@pytest.mark.parametrize("arch", ["resnet18", "fractal", "small_cnn", "mobilenet_v2"])
def test_every_layer_and_parameter_is_in_a_stage(arch, tmp_path):
    model = registry.build(arch, (32, 32, 3), 8)
    stages = figure.stages(model)
    assert stages[0][0] == "image" and stages[-1][:2] == ("logits", (8,))
    assert sum(layers for _, _, layers, _ in stages) == len(model.layers)
    assert sum(parameters for *_, parameters in stages) == model.count_params()
    figure.draw(model).savefig(tmp_path / "model.png")
    assert (tmp_path / "model.png").read_bytes()[:4] == b"\x89PNG"


def test_members_of_an_ensemble_do_not_follow_each_other():
    models = [registry.build("small_cnn", (side, side, 3), 8) for side in (16, 24)]
    drawn = figure.draw(ensemble.average(models, [1.0, 1.0]))
    texts = [each.get_text() for each in drawn.axes[0].texts]
    assert sum(text.startswith("member") for text in texts) == 2
    assert texts.count("+") == 1
    assert texts.count("") == 2  # arrows: from the picture, and to the mean
    assert figure.draw(models[0]).axes[0].texts[-1].get_text() == ""


def test_summary_has_a_line_a_layer():
    model = registry.build("small_cnn", (50, 50, 3), 8)
    lines = figure.summary(model).splitlines()
    assert len(lines) == len(model.layers) + 2
    assert lines[3].split() == ["conv1", "Conv2D", *"50 x 50 x 48".split(), "1,344"]
    assert lines[-1].split() == ["all", "245,592"]
