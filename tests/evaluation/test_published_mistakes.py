"""What published evaluators get wrong, in order; each has a test here, and `ELSEWHERE` names further ones."""

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.classes import ClassList
from pipeline.data.frames import Frame, to_frame
from pipeline.evaluation.bootstrap import ImageCounts
from pipeline.evaluation.boundary import BoundaryCounts
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.figures import rule_notes, split_figures
from pipeline.evaluation.matching import RULES, hungarian, majority, match
from pipeline.evaluation.palette import cluster_colours, colourise, palette
from tests.graph.import_closure import import_closure

ROOT = Path(__file__).parents[2]
LABEL_FREE = ("pretrain", "extract", "cluster", "train")
CLASSES = ClassList(("sky", "sea", "sun"), ("stuff", "stuff", "thing"), 255)
ELSEWHERE = {
    "tests/evaluation/test_metrics.py": {
        1: "test_every_figure_is_invariant_under_any_relabelling_of_the_clusters",
        2: "test_surplus_clusters_never_raise_accuracy_above_the_many_to_one_bound",
        3: "test_void_is_not_a_class_of_the_mean",
        8: "test_classes_absent_from_the_ground_truth_are_in_one_mean_only",
        9: "test_figures_are_of_the_split_and_no_mean_over_images",
        10: "test_mean_accuracy_is_recall_and_no_precision",
        11: "test_counts_beyond_int32_do_not_overflow",
    },
    "tests/evaluation/test_matching.py": {
        1: "test_the_matched_matrix_is_the_same_under_any_relabelling_of_the_clusters",
        2: "test_pixels_of_surplus_clusters_are_void_and_wrong",
        4: "test_the_class_map_with_surplus_clusters_agrees_with_the_matched_matrix",
        7: "test_hungarian_maximises_pixels_over_the_whole_matrix_and_is_no_argmax",
        11: "test_counts_beyond_int32_stay_exact",
    },
    "tests/evaluation/test_confusion.py": {2: "test_surplus_clusters_are_counted_too"},
    "tests/clustering/test_partition.py": {11: "test_counts_whose_pairs_do_not_fit_64_bits_stay_exact"},
    "tests/evaluation/test_palette.py": {4: "test_matched_clusters_have_class_colours_and_the_others_greys"},
    "tests/graph/test_snapshots.py": {5: "test_masks_reach_nothing_before_the_evaluation"},
    "tests/data/test_frames.py": {12: "test_resizing_is_pillows_antialiased_bilinear"},
    "tests/segmentation/test_inference.py": {12: "test_labels_are_the_best_of_the_enlarged_scores"},
}


def draw_images(seed, k, count=4):
    rng = np.random.default_rng(seed)
    return [(rng.choice([0, 1, 2, 255], (6, 6)), rng.integers(k, size=(6, 6))) for _ in range(count)]


def figures_of(images, k, rule="hungarian"):
    counts = ImageCounts(3)
    for number, (truth, clusters) in enumerate(images):
        counts.add(confusion_matrix(truth, clusters, classes=3, k=k, ignore_index=255), image=str(number))
    matrix = counts.total(range(k))
    return split_figures(
        counts,
        range(k),
        assignment=match(matrix, rule),
        many_to_one=majority(matrix),
        classes=CLASSES,
        seed=0,
    )


@pytest.mark.parametrize("rule", RULES)
@given(seed=st.integers(0, 2**32), k=st.integers(1, 6), data=st.data())
def test_01_no_figure_depends_on_how_clusters_are_numbered(rule, seed, k, data):
    # Wrong: things and stuff cut out by cluster number after the rows were permuted.
    renamed = np.array(data.draw(st.permutations(range(k))))
    images = draw_images(seed, k)
    matrix = sum(confusion_matrix(t, c, classes=3, k=k, ignore_index=255) for t, c in images)
    # clusters alike in all counts may change places in the match, and then the resampled images tell them apart
    assume(len(np.unique(matrix, axis=1).T) == k)

    one, other = (figures_of(each, k, rule) for each in (images, [(t, renamed[c]) for t, c in images]))

    # sums of logarithms in another order
    assert one.pop("partition") == pytest.approx(other.pop("partition"), abs=1e-12)
    assert one == other


@given(st.integers(0, 2**32), st.integers(1, 9))
def test_02_every_valid_pixel_is_counted_also_in_surplus_clusters(seed, k):
    # Wrong: pixels of clusters beyond C dropped before counting.
    images = draw_images(seed, k)

    figures = figures_of(images, k)

    assert figures["protocol"]["pixels"] == sum(np.count_nonzero(truth != 255) for truth, _ in images)
    assert figures["all"]["pixel_accuracy"] <= figures["majority"]["pixel_accuracy"]


def test_03_unmatched_clusters_are_no_further_class_of_the_mean():
    # Wrong: the lumped row of all surplus clusters counted as a class with IoU 0.
    truth = np.array([[0] * 10, [1] * 10, [2] * 10])
    clusters = truth.copy()
    clusters[0, :2] = 3

    figures = figures_of([(truth, clusters)], 5)

    assert figures["protocol"]["classes_counted"] == 3
    assert figures["all"]["miou"] == pytest.approx((80 + 100 + 100) / 3)


def test_04_surplus_clusters_shift_no_class_and_no_colour():
    # Wrong: a map from cluster to class that is off by one behind an unmatched cluster.
    matrix = np.array([[0, 1, 0, 9], [0, 1, 8, 0], [7, 0, 0, 0]])
    assignment = hungarian(matrix)

    assert assignment.class_of_cluster == (2, -1, 1, 0)
    painted = colourise(np.array([[3, 2, 0]]), cluster_colours(assignment.class_of_cluster, 3))
    np.testing.assert_array_equal(painted, colourise(np.array([[0, 1, 2]]), palette(3)))


@pytest.mark.parametrize("stage", LABEL_FREE)
def test_05_labels_cannot_reach_what_is_evaluated(stage):
    # Wrong: a head trained on labels, or labels in the loop, called unsupervised.
    files = import_closure(ROOT, f"stages/{stage}.py")

    assert "pipeline/evaluation/truth.py" not in files
    users = {name for name in files if "read_truth" in (ROOT / name).read_text("utf-8")}
    assert users <= {"pipeline/data/manifest.py"}  # where it is defined
    assert "truth.parquet" not in (ROOT / f"stages/{stage}.py").read_text("utf-8")


def test_06_no_checkpoint_is_chosen_by_a_labelled_score():
    # Wrong: the best epoch on labelled validation images is the one that is published.
    files = import_closure(ROOT, "stages/train.py")

    scored = ("confusion", "matching", "metrics", "truth", "evaluate", "scoring")
    assert not files & {f"pipeline/evaluation/{name}.py" for name in scored}


def test_07_a_rule_does_what_its_name_in_the_protocol_says():
    # Wrong: an argmax called Hungarian.
    matrix = np.array([[10, 9], [9, 1], [0, 0]])

    matches = {rule: match(matrix, rule) for rule in RULES}

    assert matches["hungarian"].class_of_cluster == (1, 0)
    assert matches["majority"].class_of_cluster == (0, 0)
    for rule, assignment in matches.items():
        assert rule_notes(matrix, assignment, CLASSES, {})["match_rule"].startswith(f"{rule}: ")


def test_08_a_class_without_ground_truth_is_told_and_both_means_are_given():
    # Wrong: such a class counted as 0, or left out, without a word.
    truth = np.array([[0] * 8 + [1] * 8])
    clusters = np.array([[0] * 8 + [1] * 6 + [2] * 2])

    figures = figures_of([(truth, clusters)], 3)

    assert figures["all"]["miou"] == pytest.approx((100 + 75 + 0) / 3)
    assert figures["all"]["miou_present"] == pytest.approx((100 + 75) / 2)
    matrix = confusion_matrix(truth, clusters, classes=3, k=3, ignore_index=255)
    assert rule_notes(matrix, hungarian(matrix), CLASSES, {})["absent_classes"] == "sun"


def test_09_figures_are_of_all_pixels_together_and_no_mean_over_images():
    # Wrong: accuracy or IoU of every image or batch, averaged.
    large = (np.array([[0] * 90 + [1] * 90]), np.array([[0] * 90 + [1] * 90]))
    small = (np.array([[0] * 10 + [1] * 10]), np.array([[1] * 10 + [1] * 10]))

    figures = figures_of([large, small], 3)

    assert figures["all"]["pixel_accuracy"] == 95
    assert figures["all"]["miou"] == pytest.approx((90 + 100 * 100 / 110) / 2)
    boundary = BoundaryCounts(2)
    for truth, clusters in (large, small):
        boundary.add(truth, clusters, ignore_index=255)
    assert boundary.f1().tolist() == [pytest.approx(200 / 3)] * 2  # recall 1/2, precision 1; a mean would be 50


def test_10_mean_accuracy_divides_by_the_ground_truth():
    # Wrong: "precision" or "recall" with the sums of the other side.
    truth = np.array([[0] * 8 + [1] * 2])
    clusters = np.array([[0] * 6 + [1] * 4])

    figures = figures_of([(truth, clusters)], 2)

    assert figures["all"]["mean_accuracy"] == pytest.approx((75 + 100) / 2)
    assert figures["restricted"]["stuff"]["mean_accuracy"] == pytest.approx((75 + 100) / 2)


def test_11_counts_do_not_overflow_32_bits():
    # Wrong: int32 counts, of which some thousand images are too many.
    counts = ImageCounts(3)
    for number in range(3):
        counts.add(np.diag([2**31, 2**31, 2**31]), image=str(number))

    matrix = counts.total(range(3))
    figures = split_figures(
        counts, range(3), assignment=hungarian(matrix), many_to_one=majority(matrix), classes=CLASSES, seed=0
    )

    assert figures["protocol"]["pixels"] == 9 * 2**31
    assert figures["all"]["miou"] == figures["bootstrap"]["miou_low"] == 100
    assert figures["partition"] == {"nmi": pytest.approx(1), "ari": 1.0}


def test_12_images_are_resized_with_antialiasing():
    # Wrong: images resized by nearest neighbour, as masks rightly are.
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    expected = Image.fromarray(stripes).resize((64, 64), Image.Resampling.BILINEAR)

    found = to_frame(stripes, Frame(64, "center"))

    np.testing.assert_array_equal(found, np.asarray(expected).transpose(2, 0, 1))
    assert 100 < found[..., 10:50].min() <= found[..., 10:50].max() < 155


@pytest.mark.parametrize(("path", "name"), [(path, name) for path in ELSEWHERE for name in ELSEWHERE[path].values()])
def test_the_tests_elsewhere_exist(path, name):
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
