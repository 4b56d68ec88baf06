import hashlib
from collections import Counter

import pytest

from pipeline.data.sources.coco_stuff import COCO_STUFF_3, COCO_STUFF_15, COCO_STUFF_27, USUAL_LIST, list_images
from pipeline.errors import InputError
from tests.data.sources.downloads import make_coco

# fine ids of each coarse class, in the order of the coarse classes: things, then stuff
FINE_IDS = (6, 6, 10, 10, 8, 8, 8, 10, 6, 1, 10, 8, 2, 6, 4, 11, 4, 11, 7, 2, 6, 11, 9, 2, 6, 5, 5)


def write_lists(folder, train="000000000009\n", val="000000000139\n000000000285\n", name="ids.txt"):
    for split, text in (("train2017", train), ("val2017", val)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        (folder / split / name).write_text(text)


def ids(images):
    return [image.path.stem for image in images]


def test_all_182_ids_have_a_coarse_class_and_15_is_the_stuff_of_27():
    table = COCO_STUFF_27.mask_ids
    assert set(table) == {*range(182), 255}
    assert [table[i] for i in (0, 90, 91, 181)] == [9, 4, 17, 24]
    assert COCO_STUFF_27.kinds == ("thing",) * 12 + ("stuff",) * 15
    assert COCO_STUFF_15.classes == COCO_STUFF_27.classes[12:]
    for value, coarse in table.items():
        stuff = coarse is not None and coarse >= 12
        assert COCO_STUFF_15.mask_ids[value] == (coarse - 12 if stuff else None)
        name = None if coarse is None else COCO_STUFF_27.classes[coarse]
        assert COCO_STUFF_3.mask_ids[value] == {"sky": 0, "plant": 1, "ground": 2}.get(name)


def test_the_whole_table_is_the_published_one():
    coarse = [COCO_STUFF_27.mask_ids[fine] for fine in range(182)]
    counts = Counter(coarse)
    assert tuple(counts[i] for i in range(27)) == FINE_IDS
    # of the table in the code of PiCIE and of STEGO, which agree: 182 bytes, one for each fine id
    digest = "5b6c6ce82fb97a8c2d29cc61a451953c867c5aa043372a5286bbf668351e7129"
    assert hashlib.sha256(bytes(coarse)).hexdigest() == digest


def test_masks_lie_in_annotations_too(tmp_path):
    images = list_images(make_coco(tmp_path, masks="annotations"))
    assert {image.mask_path.parents[1].name for image in images} == {"annotations"}


def test_lists_choose_the_images(tmp_path):
    root = make_coco(tmp_path / "coco")
    write_lists(root / "curated")
    assert ids(list_images(root)) == [f"{n:012d}" for n in (9, 25, 139, 285)]
    assert ids(list_images(root, "curated")) == [f"{n:012d}" for n in (9, 139, 285)]
    write_lists(root / "curated", train="000000000025\n", val="000000000285", name=USUAL_LIST)
    assert ids(list_images(root, str(root / "curated"))) == [f"{n:012d}" for n in (25, 285)]


def test_masks_outside_the_lists_are_not_missed(tmp_path, caplog):
    root = make_coco(tmp_path / "coco")
    write_lists(root)
    (root / "stuffthingmaps/train2017/000000000025.png").unlink()
    list_images(root, str(root))
    assert not caplog.records


def test_wrong_lists_are_named(tmp_path):
    root, lists = make_coco(tmp_path / "coco"), tmp_path / "lists"
    with pytest.raises(InputError, match=r"data\.id_lists: .*lists/train2017 holds no list"):
        list_images(root, str(lists))
    write_lists(lists)
    write_lists(lists, name="other.txt")
    with pytest.raises(InputError, match=rf"holds 2 lists; leave one there, name one {USUAL_LIST}"):
        list_images(root, str(lists))
    for text, problem in (
        ("000000000009\n000000000007\n", r"1 of 2 ids have no image, such as '000000000007'"),
        ("", "is empty"),
        ("000000000009\n000000000009\n", "the id 000000000009 stands there twice"),
    ):
        write_lists(lists, train=text, name=USUAL_LIST)
        with pytest.raises(InputError, match=rf"train2017/{USUAL_LIST}: .*{problem}"):
            list_images(root, str(lists))
    (lists / "train2017" / USUAL_LIST).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8 text"):
        list_images(root, str(lists))
