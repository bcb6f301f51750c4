"""Label sets against the papers and data sets that define them."""

import pytest

from deepconnotation import emotions
from deepconnotation.console import UserError


def test_orders_are_the_published_ones():
    assert emotions.FI.classes == (
        "amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness",
    )  # fmt: skip
    # AffectNet's ids: 0 Neutral, 1 Happy, 2 Sad, 3 Surprise, 4 Fear, 5 Disgust, 6 Anger, 7 Contempt
    words = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
    assert [emotions.AFFECTNET.id_of(w) for w in words] == list(range(8))
    assert set(emotions.EMOSET.classes) == set(emotions.FI.classes)
    assert emotions.EMOSET.classes != emotions.FI.classes
    assert len(emotions.FACIAL_EXPRESSIONS.classes) == 8
    assert len(emotions.FACIAL_EXPRESSIONS_6.classes) == 6


@pytest.mark.parametrize(
    ("label", "expected"),
    [("ANGER", "anger"), ("angry", "anger"), (" joy ", "happiness"), ("Happiness", "happiness")],
)
def test_aliases_and_case(label, expected):
    assert emotions.FACIAL_EXPRESSIONS.canonical(label) == expected


def test_unknown_label_names_row_and_nearest():
    with pytest.raises(emotions.UnknownLabel, match=r"legend.csv row 7.*'hapiness'.*'happiness'"):
        emotions.FACIAL_EXPRESSIONS.id_of("hapiness", "legend.csv row 7")


def test_a_set_of_ones_own():
    own = emotions.emotion_set("Joy, tre\u0300s  triste,so-so")  # a Mac's accents stand apart
    assert own.classes == ("joy", "tr\u00e8s_triste", "so-so") and emotions.is_own(own.name)
    assert [own.id_of(label) for label in (" TR\u00c8S triste", "JOY", "so-so")] == [1, 0, 2]
    assert own.merge("joy+so-so").classes == ("joy+so-so", "tr\u00e8s_triste")
    assert not any(map(emotions.is_own, emotions.EMOTION_SETS))
    for text, what in (("joy", "unknown emotion set 'joy'"), ("joy,", "'' can be no class"),
                       ("joy,a+b", r"'a\+b' can be no class"), ("joy,../x", "can be no class"),
                       ("joy,Joy", "class 'joy' is there twice")):  # fmt: skip
        with pytest.raises(UserError, match=what):
            emotions.emotion_set(text)


def test_polarity():
    pleasant = {c for c in emotions.FI.classes if emotions.FI.polarity(c) == 1}
    assert pleasant == {"amusement", "awe", "contentment", "excitement"}
    assert emotions.FI.merge("anger+awe").polarity("anger") == 0


def test_merge_and_drop():
    merged = emotions.FI.merge("fear+anger")
    assert merged.classes == (
        "amusement", "anger+fear", "awe", "contentment", "disgust", "excitement", "sadness",
    )  # fmt: skip
    assert merged.id_of("FEAR") == merged.id_of("anger") == 1
    assert "contempt" not in emotions.FACIAL_EXPRESSIONS.drop("contempt").classes
    for wrong in (("anger",), ("anger+mad",), ("anger+fear", "fear+awe"), ("anger+pride",)):
        with pytest.raises(UserError):
            emotions.FI.merge(*wrong)


def test_signs():
    signs = {1: "amusement awe contentment excitement happiness",
             -1: "anger contempt disgust fear sadness",
             0: "neutral surprise none uncertain no-face anger+awe"}  # fmt: skip
    for sign, names in signs.items():
        assert {emotions.polarity_of(name) for name in names.split()} == {sign}
    assert {*" ".join(signs.values()).split()} == {*emotions.POLARITY, "anger+awe"}


def test_wheel_distance_by_hand():
    # Clockwise from amusement: contentment 1 step, awe 2, excitement 3, fear 4, then back: 3, 2, 1.
    steps = {"amusement": 0, "contentment": 1, "awe": 2, "excitement": 3, "fear": 4,
             "sadness": 3, "disgust": 2, "anger": 1}  # fmt: skip
    for emotion, n in steps.items():
        assert emotions.wheel_distance("amusement", emotion) == n + 1
        assert emotions.wheel_distance(emotion, "amusement") == n + 1
    assert emotions.wheel_distance("fear", "sadness") == 2
    assert emotions.wheel_distance("anger", "contentment") == 3
    assert emotions.wheel_distance("anger", "amusement", polarity_penalty=3) == 5
    assert emotions.wheel_distance("awe", "amusement", polarity_penalty=3) == 3
    with pytest.raises(UserError, match="happiness"):
        emotions.wheel_distance("happiness", "anger")
