import numpy as np

from pipeline.evaluation.palette import palette
from pipeline.labels.legend import list_legend, name_colours
from pipeline.labels.names import Names

NAMES = Names("x", ("sea", "road", "sea", "kiosk"))


def test_without_classes_names_have_the_first_colours():
    np.testing.assert_array_equal(name_colours(NAMES), palette(3))


def test_a_name_that_is_a_class_has_its_colour_and_others_have_further_ones():
    colours = name_colours(NAMES, ["sky", "road", "car"])
    np.testing.assert_array_equal(colours, palette(5)[[3, 1, 4]])


def test_the_legend_lists_every_name_once_with_its_clusters():
    legend = list_legend(NAMES, ["road"])
    assert [(entry.id, entry.name, entry.clusters) for entry in legend] == [
        (0, "sea", (0, 2)),
        (1, "road", (1,)),
        (2, "kiosk", (3,)),
    ]
    assert legend[1].colour == "#{:02x}{:02x}{:02x}".format(*palette(1)[0].tolist())
