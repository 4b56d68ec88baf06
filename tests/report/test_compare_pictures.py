import numpy as np
from PIL import Image

from pipeline.report.compare_pictures import SHOWN, collect_pictures
from pipeline.report.compare_records import Baseline, Comparison, Record
from pipeline.runtime.artifacts import write_json
from tests.report.records import make_record


def paint(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)


def comparison(**seeds):
    return Comparison(
        "sample",
        "val",
        tuple(Baseline(name, tuple(Record(**make_record(name, s)) for s in runs)) for name, runs in seeds.items()),
    )


def test_images_stand_in_one_row_whatever_their_number_in_each_gallery(tmp_path):
    for run, names in {"sample-picie-s1": ["a", "b"], "sample-fs4-s0": ["b", "a"]}.items():
        folder = tmp_path / "sample" / run
        for number, name in enumerate(names):
            for kind in ("image", "truth", "prediction"):
                paint(folder / f"{number:02d}-{kind}.png", 10 * ord(name) % 256 if kind == "image" else number)
        write_json(
            folder / "gallery.json",
            [
                {"image_id": name, **{kind: f"{n:02d}-{kind}.png" for kind in ("image", "truth", "prediction")}}
                for n, name in enumerate(names)
            ],
        )
    grid = collect_pictures(tmp_path, comparison(picie=(0, 1), mdc=(0,), fs4=(0, 1)))
    assert grid.columns == [("image", ""), ("truth", ""), ("picie", "sample-picie-s1"), ("fs4", "sample-fs4-s0")]
    assert grid.without == ["mdc"]
    assert [row.name for row in grid.rows] == ["a", "b"]
    first, second = grid.rows
    assert first.uris[0].startswith("data:image/jpeg")
    assert first.uris[0] != second.uris[0]
    # picie has a first, fs4 has it second
    assert first.uris[2] == second.uris[3]
    assert first.uris[3] == second.uris[2]
    assert first.uris[2] != first.uris[3]


def test_pictures_without_a_listing_go_by_their_number_and_may_be_missing(tmp_path):
    paint(tmp_path / "sample/sample-picie-s0/00-image.png", 1)
    paint(tmp_path / "sample/sample-picie-s0/00-prediction.png", 2)
    paint(tmp_path / "sample/sample-fs4-s0/01-prediction.png", 3)
    grid = collect_pictures(tmp_path, comparison(picie=(0,), fs4=(0,)))
    assert [(row.name, [uri is not None for uri in row.uris]) for row in grid.rows] == [
        ("00", [True, False, True, False]),
        ("01", [False, False, False, True]),
    ]


def test_no_pictures_are_no_rows_and_many_are_cut(tmp_path):
    grid = collect_pictures(tmp_path, comparison(picie=(0,)))
    assert (grid.rows, grid.without) == ([], ["picie"])
    for number in range(SHOWN + 3):
        paint(tmp_path / f"sample/sample-picie-s0/{number:02d}-prediction.png", number)
    assert len(collect_pictures(tmp_path, comparison(picie=(0,))).rows) == SHOWN
