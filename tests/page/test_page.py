"""The foundation of all pages: what it writes is text where it came as text, and works in a browser, alone."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from matplotlib.font_manager import findfont
from PIL import ImageFont

from aploss_mx.page.charts import Curve, bars, cut, heat_map, lines, nice_ticks, scatter
from aploss_mx.page.gallery import (
    IGNORED,
    LEVELS,
    NEVER,
    RIGHT,
    TRUTH,
    WRONG,
    Boxes,
    Group,
    Picture,
    Slider,
    gallery,
    tally,
)  # fmt: skip
from aploss_mx.page.render import embed, pack, write_page
from aploss_mx.page.tables import Column, table
from aploss_mx.page.thumbnails import side_for, thumbnail
from aploss_mx.palette import BLUE, GREEN, SKY_BLUE, VERMILION

HOSTILE = ["<script>alert(1)</script>", "\"quotes' & umlauts äöü", "中文名字", "</script><!--", "{{ 7 * 7 }}"]
GROUPS = (Group("object", SKY_BLUE, TRUTH), Group("right", GREEN, RIGHT), Group("background", VERMILION, WRONG),
          Group("on a difficult object", BLUE, IGNORED),
          Group("difficult object", BLUE, IGNORED, labelled=True))  # fmt: skip


def scene(pictures: int = 60, each: int = 20, seed: int = 0) -> Boxes:
    """Random boxes: objects, some of which have a level at which they are found, and detections of three groups."""
    generator = np.random.default_rng(seed)
    count = pictures * each
    low = generator.uniform(0, 0.6, (count, 2))
    group = generator.integers(0, len(GROUPS), count)
    level = generator.integers(0, LEVELS + 1, count)
    level[group == len(GROUPS) - 1] = LEVELS
    level[(group == 0) & (generator.random(count) < 0.3)] = NEVER
    return Boxes(
        np.repeat(np.arange(pictures), each),
        np.hstack([low, low + generator.uniform(0.1, 0.4, (count, 2))]),
        generator.integers(0, len(HOSTILE), count),
        group,
        level,
    )


def tally_of(boxes: Boxes):
    detections = boxes.group > 0
    objects = np.bincount(boxes.label[boxes.group <= 1], minlength=len(HOSTILE))  # each right one has found one
    return tally(boxes.label[detections], boxes.group[detections], boxes.level[detections], objects)


def write_sample(path: Path, boxes: Boxes) -> None:
    generator = np.random.default_rng(1)
    images = [generator.integers(0, 255, (6, 8, 3)).astype(np.uint8).repeat(20, 0).repeat(20, 1) for _ in range(5)]
    sources = [thumbnail(image, 160) for image in images]
    pictures = [
        Picture(sources[n % 5], 160, 120, f"{n}: {HOSTILE[n % 5]}.jpg", HOSTILE[(n + 1) % 5])
        for n in range(boxes.picture[-1] + 1)
    ]
    steps = np.arange(0, 2000, 20)
    curves = [Curve(HOSTILE[n], steps, np.exp(-steps / 500) + n) for n in range(4)]
    write_page(
        path,
        Path(__file__).with_name("sample.html"),
        title=HOSTILE[0],
        charts=[
            lines("Loss <b>", curves, "step", "loss"),
            lines("Few", [Curve("AP", [1, 2, 3], [0.1, np.nan, 0.3])], "epoch", "AP", y_range=(0, 1), diagonal=True),
            lines("None", [], "epoch", "AP"),
            bars("dAP", [*HOSTILE, "nothing"], [3.1, 0.2, 5, 0, -1, np.nan]),
            scatter("Sizes", [Curve("a", [1, 2, 3], [3, 2, 5]), Curve("b", [2, 3], [1, 1])], "width", "height"),
            heat_map("Confusion", HOSTILE, HOSTILE, np.arange(25).reshape(5, 5), "truth", "detected"),
        ],
        table=table(
            [Column("class"), Column("AP", "%"), Column("objects", ",")],
            [[HOSTILE[0], 0.2, 1000], [HOSTILE[1], None, 20], [HOSTILE[2], 0.9, 3], ["mean", 0.55, 1023]],
            "By class",
            last=True,
        ),
        gallery=gallery(
            "Detections", pictures, boxes, HOSTILE, GROUPS, slider=Slider("confidence", 400, tally_of(boxes))
        ),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "päge's \"#%.html"
    write_sample(path, scene())
    return path


@pytest.mark.parametrize("text", HOSTILE + ["\u2028", "&amp;", "\ud800", "\u202egnp.exe"])
def test_embedded_text_comes_back_and_ends_no_script(text):
    embedded = str(embed({text: [text, np.float32(0.5), float("nan"), np.int64(3)]}))
    assert not set("<>&\u2028\u2029\u202e\ud800") & set(embedded)
    ((key, value),) = json.loads(embedded).items()
    assert value == [key, 0.5, None, 3]
    assert key == text or not text.isprintable()


def test_hostile_text_is_text_and_no_address_stands_in_the_page(page):
    html = page.read_text(encoding="utf-8")
    assert "<script>alert" not in html and "<!--" not in html and ">49<" not in html
    names = re.findall(r"<option value=\"\d+\">(.*?)</option>", html)
    assert sorted(names) == sorted(escape(name) for name in HOSTILE)
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)", html)
    assert html.count("<script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html and "中文名字" in html


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "<u2", "uint32"])
def test_packed_arrays_are_little_endian(dtype):
    packed = pack(np.array([1, 200], dtype))
    size = np.dtype(dtype).itemsize
    assert packed["type"] == f"Uint{8 * size}Array"
    assert np.frombuffer(base64.b64decode(packed["data"]), f"<u{size}").tolist() == [1, 200]


@pytest.mark.parametrize(
    "name", ["PERSON_WITHOUT_HELMET", "NO-SAFETY-VEST-WORN", "中文名字" * 6, "cat", "mmmmmmmmmmmmmmmmmm", ""]
)
@pytest.mark.parametrize("room, font", [(142, 12.5), (126, 12), (10, 7)])
def test_names_are_cut_to_the_room_that_they_have(name, room, font):
    text = cut(name, room, font)
    assert text == name or (name.startswith(text[:-1]) and text[-1] == "…")
    if name.isascii():
        sans = ImageFont.truetype(findfont("DejaVu Sans"), 100)  # wider than most
        assert sans.getlength(text) * font / 100 <= 1.15 * max(room, font)
    assert len(text) >= min(len(name), int(room / font) // 2)


@pytest.mark.parametrize("low, high", [(0, 1), (0, 0.003), (-5, 17), (0.2, 0.21), (0, 1e6), (1, 2)])
def test_ticks_are_few_round_and_within(low, high):
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 7 and low - 1e-12 <= ticks[0] and ticks[-1] <= high * (1 + 1e-12)
    (step,) = set(np.round(np.diff(ticks) / 10 ** np.floor(np.log10(np.diff(ticks)) + 1e-9), 6))
    assert step in (1, 2, 5)


@pytest.mark.parametrize("value", [0, 12, 1000, 165_500, -3, -1e20, 1e20])
def test_the_ticks_of_a_single_point_differ(value):
    texts = re.findall(r'class="tick"[^>]*"middle">(.*?)<', lines("t", [Curve("a", [value], [1])], "x", "y"))
    assert len(texts) >= 3 and len(set(texts)) == len(texts)


@pytest.mark.parametrize("count", [1, 50, 200, 500, 2000])
def test_thumbnails_keep_to_their_limit(count):
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    side = side_for(count)
    free = len(thumbnail(noise, side))
    assert free > len(thumbnail(noise, side, limit=free // 2))
    assert len(thumbnail(noise, side, limit=free)) == free
    assert thumbnail(np.zeros_like(noise), side).startswith("data:image/webp;base64,")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1600])
def test_it_loads_in_silence_fits_and_can_be_read(browser, page, width, dark):
    browser.open(page, width, dark=dark)
    browser.settle()
    assert browser.complaints() == []
    assert browser.overflow() <= 0
    assert browser.faint_texts() == []
    assert browser.run("return [...document.images].every((one) => one.alt.length > 3)")
    assert browser.run("return [...document.querySelectorAll('svg[role=img]')].every((one) => one.ariaLabel)")


def write_charts(path: Path, charts: list, text: str = "Charts", table: str = "", gallery: str = "") -> None:
    template = Path(__file__).with_name("sample.html")
    write_page(path, template, title=text, charts=charts, table=table, gallery=gallery)


@pytest.mark.parametrize("width", [320, 1600])
def test_names_of_any_length_stay_within_the_window(browser, page, width):
    """Names of classes, runs and files may be long, and without a space to break them at."""
    path, names, boxes = page.with_name("long.html"), [f"{'N' * 190}{n}" for n in range(len(HOSTILE))], scene(2, 5)
    long, curve = names[0], Curve(names[1], [1, 2, 3], [3, 2, 5])
    pictures = [Picture(thumbnail(np.zeros((12, 16, 3), np.uint8), 16), 16, 12, name, long) for name in names[:2]]
    charts = [
        lines(long, [curve, curve], "step", long, note=long),
        lines(long, [], "step", "loss", empty=long),
        bars(long, names, range(len(names)), note=long),
        scatter(long, [curve, curve], "width", long, note=long),
        heat_map(long, names, names, np.eye(len(names), dtype=int), long, long, note=long),
    ]
    slider = Slider("confidence", 400, tally_of(boxes))
    shown = gallery(long, pictures, boxes, names, GROUPS, slider=slider, note=long)
    write_charts(path, charts, long, table([Column(long), Column("AP", "%")], [[long, 0.5]], long), shown)
    browser.open(path, width)
    browser.run("const key = new KeyboardEvent('keydown', {key: 'ArrowRight'});"
                "document.querySelector('figure.lines svg[role=img]').dispatchEvent(key);")  # fmt: skip
    browser.run("document.querySelector('.card button').click()")
    browser.settle()
    assert browser.overflow() <= 0
    wider = "const one = document.querySelector(arguments[0]); return one.scrollWidth - one.clientWidth"
    assert [browser.run(wider, selector) for selector in (".tip", "dialog")] == [0, 0]


def test_a_gallery_is_named_for_readers_who_listen(browser, page):
    browser.open(page)
    browser.settle()
    nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    assert "group" in [node["role"]["value"] for node in nodes if node.get("name", {}).get("value") == "Detections"]


def test_the_policy_stops_requests_and_foreign_scripts(browser, page):
    browser.open(page)
    browser.run(
        "const image = new Image(), script = document.createElement('script');"
        "image.src = 'http://127.0.0.1:9/x.png';"
        "script.textContent = 'window.hacked = 1';"
        "document.body.append(image, script);"
    )
    browser.settle()
    assert not browser.run("return window.hacked")
    assert len([said for said in browser.complaints() if "Content Security Policy" in said]) == 2


def figures(browser) -> dict[str, str]:
    names = ("precision", "recall", "right", "wrong", "missed", "objects")
    return {name: browser.text(f".figures .{name}") for name in names}


@pytest.mark.parametrize("label", [-1, 2])
def test_slider_and_class_show_what_a_count_of_the_boxes_gives(browser, page, label):
    boxes = scene()
    browser.open(page)
    browser.run("const s = document.querySelector('select.class'); s.value = arguments[0];"
                "s.dispatchEvent(new Event('change'))", label)  # fmt: skip
    of_class = (boxes.label == label) | (label < 0)
    objects = int((of_class & (boxes.group <= 1)).sum())
    for level in (0, 400, 777, LEVELS):
        browser.slide(level)
        browser.show(".card")
        right, wrong = (int((of_class & (boxes.group == group) & (boxes.level >= level)).sum()) for group in (1, 2))
        assert figures(browser) == {
            "precision": f"{100 * right / (right + wrong):.1f} %" if right + wrong else "–",
            "recall": f"{100 * right / objects:.1f} %",
            "right": f"{right:,}",
            "wrong": f"{wrong:,}",
            "missed": f"{objects - right:,}",
            "objects": f"{objects:,}",
        }
        card = browser.find(".card")[0]
        first = of_class & (boxes.picture == int(card.get_attribute("data-index")))
        drawn = (boxes.group == 0) | (boxes.level >= level)
        assert len(card.find_elements("css selector", ".box")) == (first & drawn).sum()
        missed = first & (boxes.group == 0) & ((boxes.level < level) | (boxes.level == NEVER))
        assert len(card.find_elements("css selector", "[stroke-dasharray]")) == missed.sum()


def test_kinds_filter_pictures(browser, page):
    boxes = scene(each=2)
    path = page.with_name("few.html")
    write_sample(path, boxes)
    browser.open(path)
    browser.show(".kinds")
    (button,) = [one for one in browser.find(".kinds button") if one.text.startswith("background")]
    button.click()
    browser.settle()
    wanted = np.unique(boxes.picture[(boxes.group == 2) & (boxes.level >= 400)]).tolist()
    shown = [int(card.get_attribute("data-index")) for card in browser.find(".card")]
    assert shown == wanted[: len(shown)] and len(shown) >= min(24, len(wanted))
    assert f"{len(wanted)} of 60" in browser.text("p.shown")
    assert button.get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("kind", ["", "background", "difficult object"])
def test_keyboard_enlarges_turns_and_closes(browser, page, kind):
    from selenium.webdriver.common.keys import Keys

    browser.open(page)
    browser.settle()
    for one in browser.find(".kinds button"):
        if kind and one.text.startswith(kind):
            one.click()
    browser.settle()
    button = browser.find(".card button")[0]
    browser.run("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    assert browser.run("return document.querySelector('dialog').open")
    assert browser.text("dialog .title").startswith("0: <script>")
    captions = len(browser.find("dialog .caption"))
    assert captions == len(browser.find("dialog .box")) == len(browser.find("dialog .list li")) > 0
    items = browser.run("return [...document.querySelectorAll('dialog .list li')].map((one) => one.textContent)")
    told = {item.rsplit(": ", 1)[1] for item in items}
    assert not kind or told <= {kind, "object", "missed object"}
    for item in items:  # labels have no confidence
        assert bool(re.search(r" \d\.\d{3}: ", item)) == (not item.endswith("object") or "on a" in item)
    send = browser.driver.switch_to.active_element.send_keys
    send(Keys.ARROW_RIGHT)
    assert browser.text("dialog .title").startswith("1: ")
    before = browser.text("output.level")
    send(Keys.ARROW_UP)
    assert float(browser.text("output.level")) == pytest.approx(float(before) + 0.01)
    send(Keys.ESCAPE)
    assert not browser.run("return document.querySelector('dialog').open")
    browser.settle()  # the focus moves in a task of its own
    assert browser.run("return document.activeElement.closest('.card').dataset.index") == "1"


def test_a_picture_that_leaves_the_list_is_left_for_its_neighbours(browser, page):
    from selenium.webdriver.common.keys import Keys

    def listed():
        return browser.run("return [...document.querySelectorAll('.card')].map((card) => +card.dataset.index)")

    browser.open(page)
    browser.settle()
    buttons = browser.find(".kinds button")
    next(button for button in buttons if "background" in button.text).click()
    browser.settle()
    opened = listed()[2]
    browser.run("document.querySelectorAll('.card button')[2].click()")
    send = browser.driver.switch_to.active_element.send_keys
    for _ in range(100):
        if opened not in listed():
            break
        send(Keys.ARROW_UP)
    left = listed()
    assert opened not in left and left[0] < opened < left[-1]
    send(Keys.ARROW_RIGHT)
    following = min(one for one in left if one > opened)
    assert browser.text("dialog .title").startswith(f"{following}: ")
    send(Keys.ARROW_LEFT)
    assert browser.text("dialog .title").startswith(f"{max(one for one in left if one < opened)}: ")


def test_hovering_tells_the_numbers_of_the_nearest_step(browser, page):
    browser.open(page)
    browser.run(
        "const svg = document.querySelector('figure.lines svg[role=img]'), box = svg.getBoundingClientRect();"
        "const [low, high, start, end] = JSON.parse(svg.closest('figure').querySelector('script').textContent).scale;"
        "const x = box.left + (start + (507 - low) / (high - low) * (end - start)) * box.width / 460;"
        "svg.dispatchEvent(new PointerEvent('pointermove', {clientX: x, clientY: box.top + 50}));"
    )
    tip = browser.text(".tip")
    assert tip.startswith("step 500: ") and HOSTILE[0] in tip
    assert f"{HOSTILE[2]} {np.exp(-1) + 2:.5g}" in tip


def test_a_step_is_told_to_its_last_digit(browser, page):
    path = page.with_name("steps.html")
    write_charts(path, [lines("Loss", [Curve("total", [1_234_567, 1_234_592], [0.123456789, 2])], "step", "loss")])
    browser.open(path)
    key = "const key = new KeyboardEvent('keydown', {key: arguments[0]});"
    press = f"{key} document.querySelector('figure.lines svg[role=img]').dispatchEvent(key)"
    tips = []
    for _ in range(2):
        browser.run(press, "ArrowRight")
        tips.append(browser.text(".tip"))
    assert tips == ["step 1234567: total 0.12346", "step 1234592: total 2"]


def test_a_table_is_sorted_and_its_total_stays_last(browser, page):
    browser.open(page)
    read = "return [...document.querySelectorAll('table.sortable tbody tr')].map((row) => row.cells[1].textContent)"
    browser.show("table.sortable")
    heads = browser.find("table.sortable thead button")
    heads[1].click()
    assert browser.run(read) == ["90.0 %", "20.0 %", "–", "55.0 %"]
    heads[1].click()
    assert browser.run(read) == ["20.0 %", "90.0 %", "–", "55.0 %"]


def test_five_hundred_pictures_stay_quick(browser, page):
    path = page.with_name("many.html")
    write_sample(path, scene(500, 100))
    browser.open(path)
    browser.settle()
    assert len(browser.find(".card")) < 100
    assert browser.run("return document.querySelectorAll('.card .box').length") < 10_000
    browser.slide(0)
    assert browser.text(".figures .right") == f"{int((scene(500, 100).group == 1).sum()):,}"
