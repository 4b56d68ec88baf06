from pipeline.report import gallery
from pipeline.report.gallery import draw_gallery


def test_gallery_is_cut_and_counted(project, monkeypatch):
    monkeypatch.setattr(gallery, "SHOWN", 2)
    rows, total = draw_gallery(project(gallery=3).write().evaluation)
    assert (len(rows), total) == (2, 3)
    assert [row.image_id for row in rows] == ["val/0000.png", "val/0001.png"]


def test_columns_are_in_order_and_truth_is_left_out_without_masks(project):
    (row, *_), _ = draw_gallery(project().write().evaluation)
    assert [picture.title for picture in row.pictures] == ["image", "truth", "prediction", "overlay"]
    (row, *_), _ = draw_gallery(project(masks=False).write().evaluation)
    assert [picture.title for picture in row.pictures] == ["image", "prediction", "overlay"]


def test_photos_are_jpeg_and_painted_pictures_png(project):
    (row, *_), _ = draw_gallery(project().write().evaluation)
    kinds = [picture.uri.split(";")[0] for picture in row.pictures]
    assert kinds == ["data:image/jpeg", "data:image/png", "data:image/png", "data:image/jpeg"]
