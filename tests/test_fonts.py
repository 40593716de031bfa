"""Fonts by the letters of a text."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest

from aploss_mx import fonts
from aploss_mx.inspection.plots import Plot
from aploss_mx.inspection.pngs import write_pngs
from aploss_mx.page.charts import Curve
from aploss_mx.report.draw import draw_detections

DEJAVU = fonts.DEJAVU
LATIN = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "cmr10.ttf"))  # without Cyrillic
HAN = "自行车"


@pytest.fixture(autouse=True)
def forget():
    caches = (fonts.font_of, fonts._file_of, fonts._system_fonts)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("text", ["bicycle 0.98", "größer", "велосипед", "ποδήλατο"])
def test_dejavu_is_taken_where_it_has_the_letters(text, monkeypatch):
    monkeypatch.setattr(fonts, "_system_fonts", lambda: pytest.fail("not asked for"))
    assert fonts.font_of(text, 12).path == fonts.DEJAVU


def test_another_font_is_taken_where_the_first_lacks_a_letter(monkeypatch, tmp_path):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    monkeypatch.setattr(fonts, "_system_fonts", lambda: (str(broken), LATIN, DEJAVU))
    monkeypatch.setattr(fonts, "DEJAVU", LATIN)
    assert fonts.font_of("велосипед", 12).path == DEJAVU
    assert fonts.font_of("bicycle", 12).path == LATIN


@pytest.mark.filterwarnings("error")
def test_letters_that_no_font_has_are_told_once(monkeypatch):
    monkeypatch.setattr(fonts, "_system_fonts", tuple)
    with pytest.warns(UserWarning, match=f"all letters of '.*{''.join(sorted(HAN))}'.*Noto"):
        fonts.font_of(f"{HAN} 0.51", 12)
    for score in ("0.51", "0.98", "1.00"):
        assert fonts.font_of(f"{HAN} {score}", 14).path == fonts.DEJAVU  # and no second warning


def test_charts_have_such_letters_too_or_tell_once(monkeypatch, tmp_path):
    curves = [Curve(f"{HAN} {number}", np.arange(2.0), np.arange(2.0)) for number in range(2)]
    charts = 2 * [Plot("ap", "lines", {"title": HAN, "curves": curves, "x": "", "y": ""})]
    monkeypatch.setattr(fonts, "_system_fonts", tuple)
    with pytest.warns(UserWarning) as told:
        write_pngs(tmp_path, charts)
    assert [str(one.message).split(" of ")[0] for one in told] == ["no font here has all letters"]
    monkeypatch.setattr(fonts, "_system_fonts", lambda: (DEJAVU,))
    monkeypatch.setattr(fonts, "DEJAVU", LATIN)
    assert fonts.families_of("велосипед") == ["cmr10", "DejaVu Sans"]


def test_names_of_a_font_that_has_them_differ(monkeypatch):
    """Two names in Cyrillic are two pictures, also where the first font would draw the same boxes for both."""
    monkeypatch.setattr(fonts, "_system_fonts", lambda: (DEJAVU,))
    monkeypatch.setattr(fonts, "DEJAVU", LATIN)
    image = np.zeros((80, 200, 3), np.uint8)
    one, other = (draw_detections(image, [[10, 40, 90, 70]], [0], None, [name]) for name in ("кот", "пёс"))
    assert not np.array_equal(one, other)
