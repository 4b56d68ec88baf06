import pytest

from pipeline.report.pyramid import draw_pyramids, level_names, level_table


def test_images_are_spaced_over_train_and_bounded(project):
    inputs = project(train=10).write()
    names = [picture.image_id for picture in draw_pyramids(inputs, 4)]
    assert names == ["train/0000.png", "train/0002.png", "train/0005.png", "train/0007.png"]
    assert len(draw_pyramids(inputs, 100)) == 10
    assert draw_pyramids(inputs, 0) == []


def test_cells_have_the_labels_of_the_table(project):
    described = project(levels=(1, 4))
    (picture,) = draw_pyramids(described.write(), 1)
    assert [level.level for level in picture.levels] == [1, 4]
    mask = described.truth[picture.image_id]
    cells = picture.levels[1].cells
    assert len(cells) == 16
    for cell in cells:
        row, column = round(cell.y * 4), round(cell.x * 4)
        assert cell.label == described._dominant(mask, 4, row, column)
        assert cell.side == 0.25
    colours = {cell.label: cell.colour for cell in cells}
    assert len(set(colours.values())) == len(colours)


@pytest.mark.parametrize(("level", "numbered"), [(8, True), (16, False)])
def test_numbers_are_left_out_where_they_do_not_fit(project, level, numbered):
    (picture,) = draw_pyramids(project(levels=(level,)).write(), 1)
    assert picture.levels[0].numbered is numbered


def test_levels_are_in_numeric_order(project):
    inputs = project(levels=(1, 2, 16)).write()
    assert level_names(inputs.pseudo_labels) == [1, 2, 16]
    table = level_table(inputs.pseudo_labels)
    assert [row["level"] for row in table] == [1, 2, 16]
    assert all(0 < row["smallest_share"] <= row["largest_share"] <= 100 for row in table)
