"""What pre-training starts from: random weights, or a file of somebody else's."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.backbones.encoder import Encoder, build_encoder
from pipeline.backbones.importing import ImportReport, import_weights
from pipeline.params import NO_CHECKPOINT, PretrainParams
from pipeline.runtime.artifacts import write_json


@dataclass(frozen=True)
class Start:
    """A network before its training.

    Attributes:
        encoder: The network.
        report: What was imported; None for random weights.
    """

    encoder: Encoder
    report: ImportReport | None

    def notes(self) -> dict[str, Any]:
        """Where the weights came from, for the manifest and the side-car; nothing for random ones."""
        if self.report is None:
            return {}
        return {"checkpoint": self.report.notes(), "labels_used": self.report.allow_supervised_init}

    def resume_folder(self, scratch: Path) -> Path:
        """A folder for resume state that another file of weights does not share.

        Args:
            scratch: The stage's own folder, whose name follows from the parameters but not from that file.
        """
        folder = scratch / self.report.sha256[:16] if self.report else scratch
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write(self, folder: Path) -> None:
        """Write the whole report of an import as `import.json`."""
        if self.report:
            write_json(folder / "import.json", self.report.as_dict())


def build_start(params: PretrainParams, log: logging.Logger, inputs: dict[str, Any] | None = None) -> Start:
    """Build the network that stage `pretrain` begins with.

    Args:
        params: Group `pretrain`.
        log: Gets the report of an import.
        inputs: See `build_encoder`.

    Raises:
        InputError: The file of weights cannot be used; see `import_weights`.
    """
    encoder = build_encoder(params.backbone, params.channels, params.seed, params.vit_features, inputs=inputs)
    if params.checkpoint == NO_CHECKPOINT:
        return Start(encoder, None)
    report = import_weights(encoder, Path(params.checkpoint), allow_supervised=params.allow_supervised_init)
    for line in report.lines():
        log.info("%s", line)
    return Start(encoder, report)
