"""A small finished project: the folders that the report reads, written by hand."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data.frames import Frame
from pipeline.data.manifest import ImageRow, ImageTable, read_images, write_images
from pipeline.evaluation.matching import hungarian, majority
from pipeline.evaluation.metrics import classes_counted, cluster_statistics, per_class_iou, score
from pipeline.evaluation.palette import cluster_colours, colourise, overlay, palette
from pipeline.report.inputs import ReportInputs
from pipeline.runtime.artifacts import MANIFEST, create_artifact, open_artifact, write_json
from pipeline.runtime.digests import file_digest


def blobs(rng, side, classes):
    """An image of coloured blobs and its mask; any other drawing of the same shapes will do."""
    y, x = np.mgrid[:side, :side]
    mask = np.full((side, side), int(rng.integers(classes)), dtype=np.uint8)
    for _ in range(6):
        cy, cx, radius = [*rng.uniform(0, side, 2), rng.uniform(side / 8, side / 3)]
        mask[np.hypot(y - cy, x - cx) < radius] = rng.integers(classes)
    noise = rng.integers(-30, 30, (side, side, 3))
    image = np.clip(colourise(mask, palette(classes)).astype(int) + noise, 0, 255).astype(np.uint8)
    return image, mask


@dataclass
class Project:
    """Describes a project; `write` makes its folders below `root`."""

    root: Path
    names: tuple = ("sky", "road", "car", "tree")
    kinds: tuple | None = ("stuff", "stuff", "thing", "stuff")
    k: int = 4
    masks: bool = True
    train: int = 6
    val: int = 3
    side: int = 64
    rejected: tuple = (("train/broken.jpg", "truncated"), ("train/tiny.png", "too small"))
    levels: tuple = (1, 2, 4)
    epochs: int = 5
    gallery: int = 2
    pretrain_method: str = "global_dense"
    labels_used: bool = False
    confuse: float = 0.15
    draws: dict | None = None
    boundary: dict | None = None
    draw = staticmethod(blobs)

    def write(self):
        self.rng = np.random.default_rng(7)
        self.assigned = self.rng.permutation(max(self.k, len(self.names)))
        self._write_images()
        self._write_backbone()
        self._write_pseudo_labels()
        self._write_segmenter()
        self._write_evaluation()
        return self.inputs()

    def inputs(self):
        data = self.root / "data"
        folders = ("backbone", "pseudo_labels", "segmenter", "evaluation")
        return ReportInputs(
            read_images(data / "prepared/images.parquet"), *(open_artifact(data / name) for name in folders)
        )

    def _notes(self, stage, inputs, **params):
        folders = {f"data/{name}": file_digest(self.root / "data" / name / MANIFEST) for name in inputs}
        versions = {"python": "3.11.7", "torch": "2.14.1", "numpy": "2.4.6"}
        machine = {"device": "cpu", "processor": "x86_64", "threads": 2}
        made_by = {"stage": stage, "params": params, "inputs": folders}
        return {**made_by, "versions": versions, "machine": machine}

    def _write_images(self):
        rows, self.frames, self.truth = [], {}, {}
        for split, count in (("train", self.train), ("val", self.val)):
            for index in range(count):
                name = f"{split}/{index:04d}.png"
                image, mask = self.draw(self.rng, self.side, len(self.names))
                path = self.root / "photos" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                rows.append(ImageRow(name, split, str(path), self.side, self.side, digest, "ok"))
                self.frames[name], self.truth[name] = image, mask
        rows += [ImageRow(name, "train", name, 0, 0, "", reason) for name, reason in self.rejected]
        table = ImageTable(rows, Frame(self.side, "center"), max_pixels=10**6, min_side=16)
        (self.root / "data/prepared").mkdir(parents=True)
        write_images(self.root / "data/prepared/images.parquet", table)

    def _write_backbone(self):
        with create_artifact(self.root / "data/backbone") as out:
            out.notes |= self._notes("pretrain", [], pretrain={"method": self.pretrain_method, "seed": 0})
            write_json(out.path / "backbone.json", {"architecture": "resnet18", "channels": 128})
            if self.pretrain_method != "none":
                told = {"image_match": 0.81, "image_match_chance": 0.125, "effective_rank": 7.77}
                write_json(out.path / "pretext.json", {"method": self.pretrain_method, **told})
                self._write_curves(out.path, ("loss", "global_loss", "dense_loss", "embedding_std"))

    def _write_curves(self, path, names):
        lines = ["epoch," + ",".join(names)]
        for epoch in range(1, self.epochs + 1):
            values = [f"{(i + 1) * np.exp(-epoch / 5) + self.rng.uniform(0, 0.05):.5f}" for i in range(len(names))]
            lines.append(f"{epoch}," + ",".join(values))
        (path / "curves.csv").write_text("\n".join(lines) + "\n", "utf-8")

    def _write_pseudo_labels(self):
        statistics = {}
        with create_artifact(self.root / "data/pseudo_labels") as out:
            out.notes |= self._notes("cluster", [], pgg={"k": 27, "seed": 0})
            for level in self.levels:
                cells = [
                    (name, row, column, self._dominant(mask, level, row, column))
                    for name, mask in self.truth.items()
                    for row in range(level)
                    for column in range(level)
                ]
                names, rows, columns, labels = zip(*cells, strict=True)
                table = pa.table(
                    {
                        "image_id": names,
                        "row": pa.array(rows, pa.int16()),
                        "col": pa.array(columns, pa.int16()),
                        "label": pa.array(labels, pa.int32()),
                        "distance": pa.array([0.1] * len(cells), pa.float32()),
                        "margin": pa.array([0.1] * len(cells), pa.float32()),
                    }
                )
                pq.write_table(table, out.path / f"level={level}.parquet", write_page_checksum=True)
                sizes = [labels.count(label) for label in sorted(set(labels))]
                counts = {"k_asked": 27, "k_used": len(sizes), "rows": len(cells), "rows_fitted": len(cells)}
                quality = {"inertia": 1.0, "restart_inertia": [1.0, 1.1], "reseeded": 0, "zero_vectors": 0}
                statistics[str(level)] = {"sizes": sizes, **counts, **quality}
            write_json(out.path / "statistics.json", {"levels": statistics})

    def _dominant(self, mask, level, row, column):
        step = self.side // level
        cell = mask[row * step : (row + 1) * step, column * step : (column + 1) * step]
        return int(np.bincount(cell.ravel()).argmax())

    def _write_segmenter(self):
        columns = ["loss", "pixel_loss", "pgg_loss", "clusters_used", "entropy", "nmi", "unheard_of"]
        columns += [f"pgg_top1_level_{level}" for level in self.levels]
        with create_artifact(self.root / "data/segmenter") as out:
            params = {"k": self.k, "cae": {"enabled": True, "gamma": 0.5}, "seed": 0}
            out.notes |= self._notes("train", ["backbone", "pseudo_labels"], train=params)
            sidecar = {"k": self.k, "labels_used": self.labels_used, "final_clustering": {"inertia": [1.0, 1.25]}}
            write_json(out.path / "segmenter.json", sidecar)
            self._write_curves(out.path, columns)

    def _predict(self, mask):
        """Clusters: permuted classes with a square of something else, surplus clusters in its place."""
        labels = self.assigned[mask] % self.k
        side = int(self.side * self.confuse**0.5)
        y, x = self.rng.integers(0, self.side - side, 2)
        labels[y : y + side, x : x + side] = self.rng.integers(self.k)
        return labels.astype(np.uint16 if self.k > 256 else np.uint8)

    def _write_evaluation(self):
        c, k = len(self.names), self.k
        predicted = {name: self._predict(mask) for name, mask in self.truth.items()}
        matrix, sizes = np.zeros((c, k), dtype=np.int64), np.zeros(k, dtype=np.int64)
        for name, labels in predicted.items():
            sizes += np.bincount(labels.ravel(), minlength=k)
            if name.startswith("val/"):
                np.add.at(matrix, (self.truth[name], labels), 1)
        metrics = {"clusters": cluster_statistics(sizes)}
        matches = [-1] * k
        with create_artifact(self.root / "data/evaluation") as out:
            out.notes |= self._notes("evaluate", ["segmenter"], evaluate={"split": "auto", "seed": 0})
            if self.masks:
                matches = list(hungarian(matrix).class_of_cluster)
                metrics |= self._scores(matrix)
                metrics |= {name: group for name in ("draws", "boundary") if (group := getattr(self, name))}
                confusion = {
                    "classes": list(self.names),
                    "kinds": None if self.kinds is None else list(self.kinds),
                    "matrix": matrix.tolist(),
                    "class_of_cluster": matches,
                }
                write_json(out.path / "confusion.json", confusion)
            write_json(out.path / "metrics.json", metrics)
            protocol = {"split": "val", "rule": "hungarian", "checkpoint": "the final epoch"}
            write_json(out.path / "protocol.json", protocol)
            total = max(int(sizes.sum()), 1)
            classes = [self.names[match] if match >= 0 else None for match in matches]
            clusters = [
                {"cluster": i, "pixels": int(size), "share": 100 * int(size) / total, "class": classes[i]}
                for i, size in enumerate(sizes)
            ]
            write_json(out.path / "clusters.json", clusters)
            self._write_label_maps(out.path, predicted)
            colours = cluster_colours(matches, c) if self.masks else palette(k)
            self._write_gallery(out.path / "gallery", predicted, colours)

    def _scores(self, matrix):
        assignment = hungarian(matrix)
        matched = assignment.apply(matrix)
        iou = per_class_iou(matched)
        bound = score(majority(matrix).apply(matrix), None)["all"]
        floors = {"majority_class": 5.0, "random": 4.0, "colour_position_kmeans": 21.5}
        return {
            **score(matched, self.kinds),
            "majority": {key: bound[key] for key in ("miou", "pixel_accuracy")},
            "floors": {name: {"miou": miou, "pixel_accuracy": 2 * miou} for name, miou in floors.items()},
            "per_class": {name: value for name, value in zip(self.names, iou.tolist(), strict=True) if value == value},
            "partition": {"nmi": 0.25, "ari": 0.125},
            "protocol": {"classes_counted": classes_counted(matched), "pixels": int(matrix.sum())},
        }

    def _write_label_maps(self, path, predicted):
        def encode(labels):
            buffer = io.BytesIO()
            Image.fromarray(labels).save(buffer, "PNG")
            return buffer.getvalue()

        rows = [
            {"image_id": name, "split": name.split("/")[0], "png": encode(labels)} for name, labels in predicted.items()
        ]
        (path / "label_maps").mkdir()
        table = pa.Table.from_pylist(rows)
        pq.write_table(table, path / "label_maps/part-00000.parquet", write_page_checksum=True)

    def _write_gallery(self, path, predicted, colours):
        entries = []
        path.mkdir()
        for i, name in enumerate([n for n in predicted if n.startswith("val/")][: self.gallery]):
            painted = colourise(predicted[name], colours)
            pictures = {
                "image": self.frames[name],
                "prediction": painted,
                "overlay": overlay(self.frames[name], painted, 0.5),
            }
            if self.masks:
                pictures["truth"] = colourise(self.truth[name], palette(len(self.names)))
            entry = {"image_id": name, "split": "val", "truth": None}
            for title, picture in pictures.items():
                entry[title] = f"{i:02d}-{title}.png"
                Image.fromarray(picture).save(path / entry[title])
            entries.append(entry)
        write_json(path / "gallery.json", entries)


@pytest.fixture
def project(tmp_path):
    """Makes a project; keyword arguments change its description."""
    return lambda **changes: Project(tmp_path / f"project-{len(list(tmp_path.iterdir()))}", **changes)
