"""Pixel clustering in two views as it is usually written, for comparison: fp32, plain memory layout, labels in files.

An epoch has the parts of the published code of PiCIE (Cho et al. 2021): for each view one pass that clusters the
features of the train set batch by batch, then one that labels the pixels and saves a file per image; then the training,
which reads the files. Every pass opens the images anew and changes their colours one by one with torchvision's
transforms of Pillow images, as that code does. Network, optimiser, sizes and strengths are those of the pipeline.
"""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torchvision import transforms

from pipeline.backbones.encoder import Encoder
from pipeline.data.views import APPLY_BLUR, APPLY_GRAY, APPLY_JITTER, MEAN, STD, apply_geometric, draw_geometric
from pipeline.params import TrainParams

GATHERED = 6  # batches whose pixels are clustered at once
ITERATIONS = 20


class PlainRecipe:
    """One network and its optimiser.

    Args:
        encoder: Backbone and decoder.
        images: Image files.
        frame: Length in pixels to which their short side is brought, and side of the square cut from its middle.
        params: Group `train`.
        folder: For the label files.
    """

    def __init__(
        self, encoder: Encoder, images: list[Path], frame: tuple[int, int], params: TrainParams, folder: Path
    ) -> None:
        self.net, self.images, self.params, self.folder = encoder, images, params, folder
        self.optimizer = torch.optim.Adam(encoder.parameters(), lr=params.learning_rate)
        jitter = params.views.jitter
        self.transform = transforms.Compose(
            [
                transforms.Resize(frame[0]),
                transforms.CenterCrop(frame[1]),
                transforms.RandomApply(
                    [transforms.ColorJitter(jitter, jitter, jitter, params.views.hue)], APPLY_JITTER
                ),
                transforms.RandomGrayscale(APPLY_GRAY),
                transforms.RandomApply([transforms.Lambda(_blur)], APPLY_BLUR),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def run_epoch(self) -> None:
        """Cluster and label both views, then train."""
        self.net.eval()
        with torch.no_grad():
            centroids = [self._cluster(view) for view in range(2)]
            for view in range(2):
                self._save_labels(view, centroids[view])
        self.net.train()
        for indices in self._batches():
            pixels = [self._embed(indices, view) for view in range(2)]
            labels = [self._load_labels(indices, view) for view in range(2)]
            losses = [
                F.cross_entropy(F.conv2d(pixels[one], centroids[other][:, :, None, None]), labels[other])
                for one in range(2)
                for other in range(2)
            ]
            self.optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            self.optimizer.step()

    def _batches(self) -> list[list[int]]:
        size = self.params.batch_size
        return [list(range(first, min(first + size, len(self.images)))) for first in range(0, len(self.images), size)]

    def _embed(self, indices: list[int], view: int) -> torch.Tensor:
        """Unit embeddings of a view; the second is cut after the network instead of before."""
        images = torch.stack([self._open(index, view) for index in indices])
        views = self.params.views
        crop = draw_geometric(0, "crop", 0, indices, min_area=views.min_area, flip=views.flip)
        if view == 0:
            return F.normalize(self.net(apply_geometric(images, crop, (images.shape[2], images.shape[3]))), dim=1)
        embedding = self.net(images)
        return F.normalize(apply_geometric(embedding, crop, (embedding.shape[2], embedding.shape[3])), dim=1)

    def _open(self, index: int, view: int) -> torch.Tensor:
        torch.manual_seed(2 * index + view)  # the colours must be those that were labelled
        with Image.open(self.images[index], formats=["JPEG"]) as image:
            transformed = self.transform(image.convert("RGB"))
        assert isinstance(transformed, torch.Tensor)
        return transformed

    def _cluster(self, view: int) -> torch.Tensor:
        """Mini-batch k-means: every few batches, the pixels gathered refine the centroids."""
        gathered: list[np.ndarray] = []
        centroids: np.ndarray | None = None
        counts = np.zeros(self.params.k)
        batches = self._batches()
        for number, indices in enumerate(batches, 1):
            embedding = self._embed(indices, view)
            gathered.append(embedding.permute(0, 2, 3, 1).reshape(-1, embedding.shape[1]).numpy())
            if number % GATHERED and number < len(batches):
                continue
            points, gathered = np.concatenate(gathered), []
            if centroids is None:
                kmeans = faiss.Kmeans(points.shape[1], self.params.k, niter=ITERATIONS, seed=0)
                kmeans.train(points)
                centroids = kmeans.centroids
            index = faiss.IndexFlatL2(points.shape[1])
            index.add(centroids)
            nearest = index.search(points, 1)[1][:, 0]
            for cluster in range(self.params.k):
                members = points[nearest == cluster]
                if len(members):
                    counts[cluster] += len(members)
                    centroids[cluster] += (len(members) / counts[cluster]) * (members.mean(axis=0) - centroids[cluster])
        assert centroids is not None
        return torch.from_numpy(centroids)

    def _save_labels(self, view: int, centroids: torch.Tensor) -> None:
        for indices in self._batches():
            embedding = self._embed(indices, view)
            scores = F.conv2d(embedding, centroids[:, :, None, None], -centroids.square().sum(1) / 2)
            for index, labels in zip(indices, scores.argmax(1), strict=True):
                np.save(self.folder / f"{view}-{index}.npy", labels.numpy(), allow_pickle=False)

    def _load_labels(self, indices: list[int], view: int) -> torch.Tensor:
        return torch.from_numpy(
            np.stack([np.load(self.folder / f"{view}-{index}.npy", allow_pickle=False) for index in indices])
        )


def _blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(0.1 + 1.9 * float(torch.rand(()))))
