"""A font with the letters of a text."""

from pathlib import Path

from PIL import ImageFont

from deepconnotation.fonts import font_for


def test_matplotlibs_own_is_taken_where_it_has_the_letters():
    for text in ("awe", "страх и über", "φόβος …"):
        assert Path(font_for(text)).name == "DejaVuSans.ttf"


def test_another_one_where_it_lacks_one():
    """A letter of phonetics that STIX has, which comes with Matplotlib, too."""
    own, found = font_for("awe"), font_for("a \u1d81")
    boxes = [bytes(ImageFont.truetype(file, 40).getmask("\u1d81")) for file in (own, found)]
    assert found != own and boxes[0] != boxes[1]


def test_its_own_where_no_font_has_it():
    assert font_for("\U0010fffd") == font_for("awe")
