"""What is scored: one split or several, under which protocol."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.frames import Frame
from tests.evaluation.test_evaluate import CLASSES, SIDE, SPLITS, Project, perfect


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def wrong_in_train(index: int) -> np.ndarray:
    return perfect(index) if SPLITS[index] == "val" else np.array([1, 0, 2])[perfect(index)]


def test_several_splits_are_scored_as_one(project):
    assert project.evaluate(wrong_in_train).metrics["all"]["pixel_accuracy"] == 100.0
    both = project.evaluate(wrong_in_train, split="train+val", gallery=7)
    assert both.metrics["all"]["pixel_accuracy"] < 100.0
    assert both.metrics["protocol"]["images"] == 7
    assert both.metrics["protocol"]["pixels"] == 7 * (SIDE * SIDE - 4)
    assert both.protocol["split"] == both.protocol["matched_on"] == "train+val"
    assert {entry["split"] for entry in both.artifact.json("gallery/gallery.json")} == {"train", "val"}


def test_several_splits_can_be_matched_on_train(project):
    result = project.evaluate(wrong_in_train, split="train+val", match_on="train")
    assert (result.protocol["split"], result.protocol["matched_on"]) == ("train+val", "train")
    both = project.evaluate(wrong_in_train, split="train+val")
    assert result.metrics["all"]["pixel_accuracy"] < both.metrics["all"]["pixel_accuracy"]


def test_the_protocol_is_named_and_its_table_used(project):
    assert project.evaluate().protocol["protocol"] == "folder: the classes of classes.json"
    classes = CLASSES | {"protocol": "coco-stuff-3", "mask_ids": {"0": 2, "1": 1, "2": 0, "255": None}}
    result = project.evaluate(text=json.dumps(classes))
    assert result.protocol["protocol"] == "coco-stuff-3"
    assert result.metrics["all"]["miou"] == 100.0
    assert result.artifact.json("confusion.json")["class_of_cluster"] == [1, 0, 2]


def test_the_frame_that_was_scored_is_told(project):
    project.table = replace(project.table, frame=Frame(100, "center", SIDE))
    result = project.evaluate()
    assert result.metrics["protocol"]["resolution"] == SIDE
    assert result.protocol["frame"].startswith(f"short side 100 px, centre crop of {SIDE} px; ")
