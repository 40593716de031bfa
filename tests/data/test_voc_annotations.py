"""Hostile and broken annotations of VOC: what is refused, and what is kept."""

from __future__ import annotations

import pickle

import pytest
from voc_files import error_of, object_xml, read_one, write_image, write_split

from aploss_mx.data.problems import SHOWN_PER_KIND, DataError
from aploss_mx.data.voc import VOCDetection
from aploss_mx.data.voc_annotations import VOCObject, parse_annotation
from aploss_mx.data.voc_splits import find_split

ENTITY_BOMB = (
    '<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {name} "{f"&{inner};" * 10}">' for inner, name in zip("abcdefgh", "bcdefghi"))
    + "]><annotation><filename>&i;</filename></annotation>"
)
TWO_BOXES = object_xml("cat", (1, 1, 5, 5)).replace("<bndbox>", "<bndbox/><bndbox>")


@pytest.mark.parametrize(
    "xml, reason",
    [
        ("", "not readable as XML"),
        ("\x89PNG\r\n", "not readable as XML"),
        ("<annotation><object>", "not readable as XML"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "not readable as XML"),
        (ENTITY_BOMB, "refused as unsafe XML"),
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hosts">]><annotation><filename>&x;</filename></annotation>',
            "refused as unsafe XML",
        ),
        ("<html></html>", "<html> is not an <annotation>"),
        ("<annotation><object><bndbox/></object></annotation>", "no <name>"),
        ("<annotation><object><name>cat</name></object></annotation>", "a 'cat' has no <bndbox>: give"),
        (f"<annotation>{object_xml('cat', (1, 1, 'nan', 5))}</annotation>", "<bndbox/xmax> in <object> is 'nan'"),
        (f"<annotation>{object_xml('cat', (1, 1, 5, '1e999'))}</annotation>", "<bndbox/ymax> in <object> is '1e999'"),
        (f"<annotation>{TWO_BOXES}</annotation>", "an <object> has 2 <bndbox>: give each object its own <object>"),
        (f"<annotation>{object_xml('cat</name><name>dog', (1, 1, 5, 5))}</annotation>", "an <object> has 2 <name>"),
        ("<annotation><size><width>wide</width></size></annotation>", "<size/width> in <annotation> is 'wide'"),
        (f"<annotation>{object_xml('cat', (1, 1, 5, 5), '<difficult>maybe</difficult>')}</annotation>", "'maybe'"),
    ],
)
def test_broken_annotation_is_named(tmp_path, xml, reason):
    read_one(tmp_path)
    (tmp_path / "Annotations" / "a.xml").write_text(xml, encoding="utf-8")
    message = error_of(tmp_path, "train")
    assert "broken annotation" in message and "a.xml" in message and reason in message


def test_all_broken_annotations_are_counted_and_some_named(tmp_path):
    stems = [f"{number:03}" for number in range(SHOWN_PER_KIND + 5)]
    write_image(tmp_path, "fine")
    write_split(tmp_path, "train", "\n".join([*stems, "fine"]))
    with pytest.raises(DataError) as caught:
        VOCDetection(tmp_path, "train")
    assert len(caught.value.problems) == len(stems)
    message = str(caught.value)
    assert f"missing annotation ({len(stems)})" in message and "... and 5 more" in message
    assert message.count(".xml") == SHOWN_PER_KIND


def test_without_strict_the_rest_is_read(tmp_path):
    write_image(tmp_path, "fine", object_xml("cat", (1, 1, 5, 5)), object_xml("cow", (1, 1, 5, 5)))
    write_split(tmp_path, "train", "gone\nfine")
    dataset = VOCDetection(tmp_path, "train", ("cat",), strict=False)
    assert [sample.labels.tolist() for sample in dataset] == [[0]]
    assert [problem.kind for problem in dataset.problems] == ["missing annotation", "unknown class"]


def test_unknown_classes_are_named_with_a_way_out(tmp_path):
    write_image(tmp_path, "a", object_xml("cat", (1, 1, 5, 5)))
    write_image(tmp_path, "b", object_xml("Cat", (1, 1, 5, 5)), object_xml("RBC", (1, 1, 5, 5)))
    write_image(tmp_path, "c", object_xml("Cat", (1, 1, 5, 5), "<difficult>1</difficult>"))
    write_split(tmp_path, "train", "a\nb\nc")
    message = error_of(tmp_path, "train")
    assert "'Cat' (2 objects, first in b.xml), 'RBC' (1 objects, first in b.xml)" in message
    assert "The data have Cat, RBC, cat" in message and "--classes" in message
    assert len(VOCDetection(tmp_path, "train", ("cat", "Cat", "RBC"))) == 3


def test_parse_annotation_keeps_what_is_written(tmp_path):
    write_image(tmp_path, "a", object_xml(" Cat ", (9, 9, 1, 1)), size="", filename="b.jpg")
    annotation = parse_annotation(tmp_path / "Annotations" / "a.xml")
    assert (annotation.filename, annotation.width, annotation.height) == ("b.jpg", 0, 0)
    assert annotation.objects == (VOCObject("Cat", (9, 9, 1, 1), False),)


def test_data_error_survives_pickling(tmp_path):
    with pytest.raises(DataError) as caught:
        find_split(tmp_path, "train")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value) and copy.problems == caught.value.problems
