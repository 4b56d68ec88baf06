import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.params import ReportParams
from pipeline.report.page import LISTED_FILES, OPEN_SHEETS, build_report

PARAMS = ReportParams(title="A title", regions_per_cluster=3, pyramid_images=2)
VOID = {"meta", "img", "br", "link", "hr", "input"}
SECTIONS = ["scores", "gallery", "clusters", "pyramid", "pretext", "curves", "data", "provenance", "published"]


class Page(HTMLParser):
    """Reads a page and notes what the tests ask for; unbalanced tags are an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.attributes, self.headings, self.images, self.links = [], [], [], [], [], []
        self.words = []
        self.tags = set()
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.note(tag, attrs)

    def note(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        self.attributes += attrs
        if "id" in values:
            self.ids.append(values["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img":
            self.images.append(values)
        if tag == "a":
            self.links.append(values["href"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def build(project, **changes):
    return build_report(project(**changes).write(), PARAMS)


def test_page_is_well_formed_and_has_all_sections(project):
    page = Page(build(project))
    assert page.ids[:1] == ["summary"]
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert len(set(page.ids)) == len(page.ids)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))
    assert len(page.links) > len(SECTIONS)


def test_page_needs_nothing_but_itself(project):
    text = build(project)
    page = Page(text)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "xlink:href", "data", "poster"):
            assert value.startswith(("#", "data:image/")), value[:80]
    assert "//" not in re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", text)
    assert "url(" not in text
    assert "@import" not in text
    policy = re.search(r'Policy" content="([^"]+)"', text)[1]
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy
    assert "unsafe-eval" not in policy


def test_every_picture_has_a_text(project):
    page = Page(build(project))
    assert len(page.images) > 10
    assert all(image["alt"] for image in page.images)


def test_same_inputs_give_the_same_bytes(project):
    inputs = project().write()
    assert build_report(inputs, PARAMS) == build_report(inputs, PARAMS)


def test_headline_names_score_floors_and_verdict(project):
    page = Page(build(project))
    assert "above the best floor (k-means on colour and position, 21.5 %): it beats all floors." in page.text
    assert "normalised mutual information 0.250, adjusted Rand index 0.125" in page.text
    for row in ("This run: all classes", "This run: things", "This run: stuff", "This run: majority"):
        assert row in page.text
    assert "Floor: random clusters" in page.text
    assert "Not comparable with this run" in page.text


def test_further_final_clusterings_stand_beside_the_headline(project):
    draws = {"count": 5, "miou_mean": 41.26, "miou_sd": 1.74, "pixel_accuracy_mean": 61.5, "pixel_accuracy_sd": 2.5}
    page = Page(build(project, draws=draws))
    assert "Over 5 final clusterings of the same network, mIoU is 41.3 ± 1.7 % and accuracy 61.5 ± 2.5 %" in page.text
    assert "Any clustering: all classes mean ± sd over 5 final clusterings of the same network 41.3 ± 1.7" in page.text
    assert "final clusterings" not in Page(build(project)).text


def test_boundary_f1_has_a_column_where_it_was_computed(project):
    assert "boundary" not in Page(build(project)).text.lower()
    boundary = {"tolerance": 0.0075, "f1": 33.26, "per_class": {"sky": 44.44}}
    page = Page(build(project, boundary=boundary))
    assert "recall boundary F1 share of truth" in page.text
    assert "within 0.75 % of the image’s diagonal count as met; its mean over classes is 33.3 %." in page.text
    assert " 44.4 " in page.text


def test_protocol_params_versions_and_provenance_are_shown(project):
    page = Page(build(project))
    for text in ("the final epoch", "cae.gamma", "2.14.1", "threads 2", "regions_per_cluster", "Segmenter"):
        assert text in page.text
    assert page.text.count("✓") == 3 + 1  # three folders of the chain, and the note that explains the sign
    assert "not the one shown here" not in page.text


def test_names_are_escaped(project):
    evil = "<script>alert(1)</script>"
    text = build(
        project,
        names=(evil, 'a"b', "car", "tree"),
        rejected=(("train/<img src=x onerror=alert(2)>.png", "<b>broken</b>"),),
    )
    page = Page(text)
    assert "script" not in page.tags
    assert "<b>broken" not in text
    assert not [value for name, value in page.attributes if name == "onerror"]
    assert evil in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_title_is_escaped(project):
    text = build_report(project().write(), PARAMS.model_copy(update={"title": "</title><script>1</script>"}))
    assert "script" not in Page(text).tags


def test_without_masks_there_are_no_scores_but_next_steps(project):
    page = Page(build(project, masks=False))
    assert "scores" not in page.ids
    assert "published" not in page.ids
    assert [name for name in ["next", *SECTIONS[1:-1]] if name not in page.ids] == []
    assert "There are no masks, so nothing is scored." in page.text
    assert "Segment further images." in page.text
    for word in ("mIoU", "unmatched", "truth", "mostly"):
        assert word not in page.text


def test_more_clusters_than_classes(project):
    page = Page(build(project, k=7))
    assert "holds the 3 clusters that no class is matched with" in page.text
    sheets = len(re.findall(r"Cluster \d", page.text))
    assert page.text.count(" unmatched ") == 1 + sheets - 4  # a column of the confusion, and the sheets without class


def test_fewer_clusters_than_classes(project):
    page = Page(build(project, k=3))
    assert "none" in page.text
    assert "that no class is matched with" not in page.text


def test_further_contact_sheets_are_folded_and_label_maps_may_have_16_bits(project):
    page = Page(build(project, k=300, train=60))
    sheets = len(re.findall(r"Cluster \d+", page.text))
    assert sheets > OPEN_SHEETS
    assert f"{sheets - OPEN_SHEETS} more clusters" in page.text
    assert "Without any pixel: cluster" in page.text


def test_rejected_files_are_listed_with_reasons(project):
    page = Page(build(project))
    assert "train/broken.jpg train truncated" in page.text
    assert "train/tiny.png train too small" in page.text


def test_many_rejected_files_are_cut_and_counted(project):
    rejected = tuple((f"train/{i:05d}.jpg", "not an image") for i in range(1234))
    page = Page(build(project, rejected=rejected))
    assert page.text.count("not an image") == LISTED_FILES
    assert f"the first {LISTED_FILES} of 1,234" in page.text


def test_nothing_rejected(project):
    assert "None: all 9 images were used." in Page(build(project, rejected=())).text


def test_classes_without_kinds(project):
    page = Page(build(project, kinds=None))
    assert "This run: things" not in page.text


@pytest.mark.parametrize("epochs", [1, 0])
def test_short_trainings(project, epochs):
    page = Page(build(project, epochs=epochs))
    assert ("Segmenter: not trained in this run" in page.text) == (epochs == 0)


def test_random_backbone_is_stamped(project):
    page = Page(build(project, pretrain_method="none"))
    assert "random backbone (control)" in page.text
    assert "no labels used before evaluation" in page.text
    assert "Backbone: not trained in this run" in page.text


def test_use_of_labels_is_stamped(project):
    page = Page(build(project, labels_used=True))
    assert "labels were used in training" in page.text
    assert "no labels used before evaluation" not in page.text


def test_no_gallery_and_no_pyramids(project):
    inputs = project(gallery=0).write()
    page = Page(build_report(inputs, PARAMS.model_copy(update={"pyramid_images": 0})))
    assert "gallery" not in page.ids
    assert "#gallery" not in page.links
    assert "svg" in page.tags


def test_size_is_bounded(project):
    text = build(project, k=27, train=20, side=128, names=tuple(f"class {i}" for i in range(27)), kinds=None)
    assert len(text) < 2_000_000


def test_altered_image_is_named(project):
    inputs = project().write()
    for row in inputs.images.select("train"):
        path = Path(row.path)
        path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(InputError, match=r"train/0000\.png: the file has changed"):
        build_report(inputs, PARAMS)
