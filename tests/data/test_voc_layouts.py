"""VOC folders as real tools write them: names with blanks, subfolders, other tags, fractions, several pictures."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import pytest
from drawn_images import exif
from PIL import Image
from voc_files import error_of, object_xml, read_one, write_image, write_split

from aploss_mx.data.check import check_dataset, check_images
from aploss_mx.data.file_index import FileIndex
from aploss_mx.data.problems import BOX_BELOW_PIXEL
from aploss_mx.data.voc import VOCDetection

CAT = object_xml("cat", (1, 1, 20, 20))


def read(folder: Path, lines: str, **options) -> VOCDetection:
    write_split(folder, "train", lines)
    return VOCDetection(folder, "train", ("cat",), **options)


def write_below(folder: Path, name: str, **image) -> None:
    """Write an image with a cat, its files in a subfolder."""
    subfolder, _, stem = name.rpartition("/")
    write_image(folder / "made", stem, CAT, **image)
    for kind in ("Annotations", "JPEGImages"):
        (folder / kind / subfolder).mkdir(parents=True, exist_ok=True)
        for file in (folder / "made" / kind).iterdir():
            shutil.move(str(file), str(folder / kind / subfolder / file.name))


def link_away(folder: Path, elsewhere: Path) -> None:
    """Move a folder and leave a link to it."""
    elsewhere.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(str(folder), str(elsewhere))
    folder.symlink_to(elsewhere, target_is_directory=True)


# Lines -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("annotated", [True, False])
@pytest.mark.parametrize(
    "line, name",
    [
        ("ali (1)", "ali (1)"), ("ali (1)  1", "ali (1)"), ("ali (1) -1", "ali (1)"), ('"ali (1)" 0', "ali (1)"),
        ("ali", "ali"), ("ali 1", "ali"), ("no 7", "no 7"), ("no 7  1", "no 7"),
        ("ali.jpg", "ali"), ("ali.JPG", "ali"), ("ali.xml", "ali"), ("ali (1).jpg -1", "ali (1)"),
        ("./ali", "ali"), ("sub/../ali", "ali"), (r".\ali.jpg", "ali"), ("JPEGImages/ali.jpg", "ali"),
        ("/somewhere/VOC2007/JPEGImages/ali.jpg", "ali"), ("v1.2", "v1.2"), ("v1.2.jpg", "v1.2"),
        ("sub/bo", "sub/bo"), (r"sub\bo.jpg", "sub/bo"), ("bo", "sub/bo"), ("bo  1", "sub/bo"),
    ],
)  # fmt: skip
def test_a_line_is_understood_as_it_is_meant(tmp_path, line, name, annotated):
    for stem in ("ali", "ali (1)", "no 7", "v1.2"):
        write_image(tmp_path, stem, CAT)
    write_below(tmp_path, "sub/bo")
    dataset = read(tmp_path, f"{line}\n", annotated=annotated)
    (sample,) = dataset
    assert (sample.image_id, sample.image_path) == (name, tmp_path / "JPEGImages" / f"{name}.jpg")
    assert len(sample.boxes) == annotated and dataset.problems == []


@pytest.mark.parametrize("line", ["U", "U.XML", "U 1", "sub/U", "U.jpg"])
def test_annotations_have_suffixes_of_any_case(tmp_path, line):
    write_below(tmp_path, "sub/U" if "/" in line else "U")
    file = tmp_path / "Annotations" / ("sub/U.xml" if "/" in line else "U.xml")
    file = file.rename(file.with_suffix(".XML"))
    assert len(read(tmp_path, line)[0].boxes) == 1
    file.write_text("nothing")
    (problem,) = read(tmp_path, line, strict=False).problems
    assert problem.kind == "broken annotation" and problem.file == str(file)
    assert problem.image == tmp_path / "JPEGImages" / file.relative_to(tmp_path / "Annotations").with_suffix(".jpg")


@pytest.mark.parametrize("listed, annotation, picture", [("NFC", "NFD", "NFD"), ("NFD", "NFC", "NFD")])
def test_accents_may_be_composed_or_apart(tmp_path, listed, annotation, picture):
    names = [unicodedata.normalize(form, "café") for form in (listed, annotation, picture)]
    write_image(tmp_path, names[1], CAT)
    (tmp_path / "JPEGImages" / f"{names[1]}.jpg").rename(tmp_path / "JPEGImages" / f"{names[2]}.jpg")
    assert read(tmp_path, names[0])[0].image_path == tmp_path / "JPEGImages" / f"{names[2]}.jpg"


def test_of_two_annotations_of_one_name_the_usual_suffix_counts(tmp_path):
    write_image(tmp_path, "U", CAT)
    (tmp_path / "Annotations" / "U.XML").write_text("nothing")
    assert len(read(tmp_path, "U")[0].boxes) == 1


def test_one_image_in_two_spellings_is_read_once(tmp_path):
    write_image(tmp_path, "a", CAT)
    spellings = ["a", "a.jpg", "./a", "JPEGImages/a.jpg", "a 1", "x/../a", '"a"']
    dataset = read(tmp_path, "\n".join(spellings))
    assert [sample.image_id for sample in dataset] == ["a"]
    assert [problem.kind for problem in dataset.problems] == ["repeated image"] * (len(spellings) - 1)


def test_names_in_two_folders_are_told_apart(tmp_path):
    for name in ("one/a", "two/a"):
        write_below(tmp_path, name)
    assert [sample.image_id for sample in read(tmp_path, "one/a\ntwo/a")] == ["one/a", "two/a"]
    write_split(tmp_path, "train", "a")
    message = error_of(tmp_path, "train")
    assert "line 1: it may be any of one/a, two/a: name the folder, too" in message


@pytest.mark.parametrize("line", ["x" * 300, "x" * 100_000, "/etc/passwd", "../../elsewhere/a", "..", "é" * 130])
def test_a_line_that_can_be_no_name_is_named_by_its_number(tmp_path, line):
    write_image(tmp_path, "a", CAT)
    write_split(tmp_path, "train", f"a\n\n{line}\n")
    message = error_of(tmp_path, "train")
    assert "train.txt: line 3: " in message and "can be no name" in message
    assert len(message) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("line", ["nul\0byte", "gone", "gone 1"])
def test_a_line_without_a_file_is_a_missing_annotation(tmp_path, line):
    write_split(tmp_path, "train", line)
    assert "missing annotation (1)" in error_of(tmp_path, "train")


# Pictures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".Jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG", ".Tif", ".bmp", ".BMP", ".webp"])
def test_suffixes_of_any_case_need_no_filename(tmp_path, suffix):
    assert read_one(tmp_path, CAT, suffix=suffix)[0].image_path == tmp_path / "JPEGImages" / f"a{suffix}"


@pytest.mark.parametrize("filename, expected", [("a.jpg", "a.jpg"), ("a.png", "a.png"), (r"C:\data\a.png", "a.png")])
def test_of_two_pictures_of_one_stem_filename_decides(tmp_path, filename, expected):
    write_image(tmp_path, "a", CAT, suffix=".jpg")
    write_image(tmp_path, "a", CAT, suffix=".png", filename=filename)
    assert read(tmp_path, "a")[0].image_path == tmp_path / "JPEGImages" / expected


@pytest.mark.parametrize("filename", ["", "b.jpg", "a.bmp"])
def test_two_pictures_of_one_stem_that_nothing_decides_between_are_an_error(tmp_path, filename):
    write_image(tmp_path, "a", CAT, suffix=".jpg")
    write_image(tmp_path, "a", CAT, suffix=".png", filename=filename)
    write_split(tmp_path, "train", "a")
    message = error_of(tmp_path, "train", ("cat",))
    assert "several pictures (1)" in message and "a.jpg, a.png" in message


def test_the_picture_of_the_images_name_comes_before_filename(tmp_path):
    """Annotations copied from another leave its <filename>."""
    write_image(tmp_path, "b", CAT)
    write_image(tmp_path, "a", CAT, filename="b.jpg")
    assert read(tmp_path, "a")[0].image_path.name == "a.jpg"


@pytest.mark.parametrize("name", ["b", "sub/a"])
def test_a_missing_picture_is_not_replaced_by_another_images(tmp_path, name):
    write_image(tmp_path, "a", CAT)
    write_below(tmp_path, name, filename="a.jpg")
    (tmp_path / "JPEGImages" / f"{name}.jpg").unlink()
    write_split(tmp_path, "train", f"a\n{name}")
    message = error_of(tmp_path, "train", ("cat",))
    assert "shared picture (1)" in message and f"a.jpg: it is taken for the picture of a, {name}" in message


def test_annotations_in_subfolders_with_pictures_in_one(tmp_path):
    write_below(tmp_path, "sub/a")
    shutil.move(str(tmp_path / "JPEGImages" / "sub" / "a.jpg"), str(tmp_path / "JPEGImages"))
    assert read(tmp_path, "sub/a")[0].image_path == tmp_path / "JPEGImages" / "a.jpg"


@pytest.mark.parametrize("line", ["sub/a", "a"])
@pytest.mark.parametrize("filename", ["", "a"])
def test_folders_may_be_links(tmp_path, line, filename):
    """As to the disk of another machine."""
    write_below(tmp_path, "sub/a", suffix=".png", filename=filename)
    for kind in ("Annotations", "JPEGImages"):
        link_away(tmp_path / kind / "sub", tmp_path / "disk" / kind)
    for annotated in (True, False):
        dataset = read(tmp_path, line, annotated=annotated)
        assert [sample.image_path for sample in dataset] == [tmp_path / "JPEGImages" / "sub" / "a.png"]
        assert check_images(dataset) == []


def test_links_lead_to_each_folder_once(tmp_path):
    write_below(tmp_path, "sub/a")
    write_below(tmp_path, "far/away/b")
    pictures = tmp_path / "JPEGImages"
    link_away(pictures / "far", tmp_path / "disk")
    shutil.copy(str(pictures / "sub" / "a.jpg"), str(tmp_path / "above.jpg"))
    for link, target in (
        ("sub/up", pictures), ("sub/itself", pictures / "sub"), ("again", pictures / "sub"), ("root", tmp_path),
        ("far/up", tmp_path / "disk"), ("far/away/back", pictures), ("nowhere", tmp_path / "gone"),
    ):  # fmt: skip
        (pictures / link).symlink_to(target, target_is_directory=True)
    assert sorted(FileIndex(pictures, {".jpg"}).files) == ["far/away/b", "sub/a"]
    assert [sample.image_id for sample in read(tmp_path, "a\nb")] == ["sub/a", "far/away/b"]


@pytest.mark.parametrize("name", ["a", "sub/a"])
def test_a_file_above_the_pictures_is_none_of_them(tmp_path, name):
    write_below(tmp_path / "data", name)
    picture = tmp_path / "data" / "JPEGImages" / f"{name}.jpg"
    for stray in ("a", "a.jpg", "data/a", "data/a.jpg"):
        shutil.copy(str(picture), str(tmp_path / stray))
    picture.unlink()
    assert read(tmp_path / "data", name)[0].image_path == picture


# Boxes below a pixel -----------------------------------------------------------------------------


def test_fractions_of_the_image_are_an_error_that_says_so(tmp_path):
    fractions = [object_xml("cat", (0.1, 0.25, 0.5, 1)), object_xml("cat", (0, 0, 1, 1))]
    write_image(tmp_path, "a", *fractions)
    write_image(tmp_path, "b", CAT)
    write_split(tmp_path, "train", "a\nb")
    message = error_of(tmp_path, "train", ("cat",))
    assert f"{BOX_BELOW_PIXEL} (1)" in message and str(Path("Annotations", "a.xml")) in message
    assert "[0.1, 0.25, 0.5, 1]" in message and "fractions of the image; multiply x by its width" in message


@pytest.mark.parametrize(
    "boxes",
    [
        [(1, 1, 2, 2)],  # a small object in the corner
        [(0, 0, 1, 1)],  # the trace of a click
        [(0.5, 0.5, 1, 1), (3, 3, 9, 9), (3, 3, 9, 9)],  # one of three
        [(10.2, 10.2, 10.6, 10.9)],
        [(-0.5, 0, 1, 1)],  # one that begins left of the image
    ],
)
def test_small_boxes_in_pixels_are_none_of_fractions(tmp_path, boxes):
    dataset = read_one(tmp_path, *[object_xml("cat", box) for box in boxes])
    assert BOX_BELOW_PIXEL not in [problem.kind for problem in dataset.problems]


# Fields of other tools ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item, told",
    [
        ("<Difficult>1</Difficult>", "'Difficult' in <object>"),
        ("<dificult>1</dificult>", "'dificult' in <object>"),
        ("<ignore>1</ignore>", "'ignore' in <object>"),
        ("<is_crowd>1</is_crowd>", "'is_crowd' in <object>"),
        (
            "<attributes><attribute><name>difficult</name><value>1</value></attribute></attributes>",
            "'difficult' in <object>",
        ),
    ],
)
def test_a_field_that_looks_like_a_known_one_is_reported_once(tmp_path, item, told):
    for stem in "ab":
        write_image(tmp_path, stem, object_xml("cat", (1, 1, 9, 9), item), object_xml("cat", (1, 1, 8, 8), item))
    (problem,) = read(tmp_path, "a\nb").problems
    assert (problem.severity, problem.kind) == ("warning", "field that is not read")
    assert problem.file.endswith("a.xml") and told in problem.message and "(2 files)" in problem.message
    assert "looks like" in problem.message and "<difficult>" in problem.message


def test_objects_of_a_capitalised_tag_are_reported(tmp_path):
    write_image(tmp_path, "a", CAT, CAT.replace("object>", "Object>"))
    dataset = read(tmp_path, "a")
    assert len(dataset[0].boxes) == 1
    assert "'Object' in <annotation> is not read, and looks like the tag <object>" in dataset.problems[0].message


def test_an_attribute_in_place_of_a_tag_is_reported(tmp_path):
    write_image(
        tmp_path, "a", CAT.replace("<difficult>0</difficult>", "").replace("<object>", '<object difficult="1">')
    )
    (problem,) = read(tmp_path, "a").problems
    assert "'difficult' in <object> is not read" in problem.message


def test_fields_that_the_challenge_and_known_tools_have_are_not_reported(tmp_path):
    more = "<pose>Left</pose><truncated>1</truncated><occluded>0</occluded><difficult>0</difficult><deleted>0</deleted>"
    more += "<attributes><attribute><name>rotation</name><value>0.0</value></attribute></attributes><part/><id>1</id>"
    source = "<source><database>x</database><annotation>y</annotation><image>z</image></source><segmented>0</segmented>"
    write_image(
        tmp_path, "a", object_xml("cat", (1, 1, 9, 9), more), source, "<folder>f</folder><path>p</path><owner/>"
    )
    assert read(tmp_path, "a").problems == []


@pytest.mark.parametrize(
    "item, told",
    [
        (CAT.replace("name>", "Name>"), "no <name>; it has 'Name', which looks like it"),
        (CAT.replace("bndbox>", "BndBox>"), "no <bndbox>; it has 'BndBox', which looks like it: give the box"),
        ("<object><name>cat</name><polygon><x1>1</x1></polygon></object>", "has a <polygon> but no <bndbox>: give the"),
    ],
)
def test_what_is_missing_is_told_with_what_is_there_instead(tmp_path, item, told):
    write_image(tmp_path, "a", item)
    write_split(tmp_path, "train", "a")
    assert told in error_of(tmp_path, "train", ("cat",))


def test_polygons_beside_boxes_do_no_harm(tmp_path):
    item = CAT.replace("</object>", "<polygon><x1>1</x1><y1>1</y1></polygon></object>")
    assert len(read_one(tmp_path, item)[0].boxes) == 1


# Folders -----------------------------------------------------------------------------------------


def test_the_folder_above_the_devkit_will_do(tmp_path):
    write_image(tmp_path / "VOCdevkit" / "VOC2007", "a", CAT)
    write_split(tmp_path / "VOCdevkit" / "VOC2007", "train", "a")
    for root in (tmp_path, tmp_path / "VOCdevkit"):
        assert len(VOCDetection(root, "2007_train", ("cat",))) == 1


def test_data_without_lists_are_told_the_layout(tmp_path):
    write_image(tmp_path, "a", CAT)
    message = error_of(tmp_path, "train")
    assert "has no lists of images. Wanted are Annotations/NAME.xml, JPEGImages/NAME.jpg" in message
    assert "ImageSets/Main/SPLIT.txt" in message and "annotations/instances_SPLIT.json" in message


@pytest.mark.parametrize("root", ["nowhere", "x" * 300, "a/file"])
def test_a_root_that_is_no_folder_is_said_once(tmp_path, root):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("")
    message = error_of(tmp_path / root, "2007_train+2012_train")
    assert "no such folder" in message and message.count(root) == 1 and "--dataset-root" in message


def test_a_turned_tiff_without_size_keeps_its_stored_one(tmp_path):
    write_image(tmp_path, "a", CAT, size="", suffix=".png")
    (tmp_path / "JPEGImages" / "a.png").unlink()
    Image.new("RGB", (40, 30)).save(tmp_path / "JPEGImages" / "a.tif", exif=exif(6))
    dataset = read(tmp_path, "a")
    assert (dataset[0].width, dataset[0].height) == (40, 30)
    assert [problem.kind for problem in check_dataset(dataset).problems] == ["EXIF rotation"]
