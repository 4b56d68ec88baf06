"""Puts foreign weights into a backbone, and keeps account of what fitted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.backbones.encoder import Encoder
from pipeline.backbones.fitting import fit_tensors
from pipeline.backbones.foreign import ANCHORS, RENAMES, find_prefixes, name_layout, read_tensors
from pipeline.backbones.lookalikes import refuse_deeper, refuse_lookalike_vits
from pipeline.backbones.supervision import find_head, find_labelled_sidecar
from pipeline.errors import InputError
from pipeline.runtime.digests import file_digest

MIN_SHARE = 0.95
SHOWN = 8
_SECOND = (
    "encoder_k.",
    "momentum_encoder.",
    "student.",
    "appearance.",
)  # of two networks in a file, the one that is not meant


@dataclass(frozen=True)
class ImportReport:
    """What became of the tensors of a file.

    Attributes:
        file: Its name, without folders.
        sha256: Digest of its bytes.
        layout: Whose keys it has.
        prefix: What stood before the backbone's keys.
        tensors: Tensors of the backbone, without counters of batches.
        matched: Those that the file filled.
        missing: Keys of the backbone that it did not.
        unexpected: Keys beside the backbone's in the file, such as heads.
        other_shapes: Keys that both have, with their shapes.
        adapted: What was done to make a tensor fit.
        elsewhere: Tensors of the file under other prefixes, such as a second network or an optimiser's.
        decoder: Whether the decoder came from the file as well.
        head: The head in the file that is trained with labels, empty if there is none.
        labelled_sidecar: The side-car of FS4's own weights that says that labels were used, empty if there is none.
        allow_supervised_init: What the user said; then the result is stamped.
    """

    file: str
    sha256: str
    layout: str
    prefix: str
    tensors: int
    matched: int
    missing: list[str]
    unexpected: list[str]
    other_shapes: list[str]
    adapted: list[str]
    elsewhere: int
    decoder: bool
    head: str
    labelled_sidecar: str
    allow_supervised_init: bool

    @property
    def share(self) -> float:
        """Share of the backbone's tensors that the file filled."""
        return self.matched / self.tensors

    def notes(self) -> dict[str, Any]:
        """The provenance in a few plain values."""
        keys = ("file", "sha256", "layout", "head", "labelled_sidecar", "allow_supervised_init")
        return {key: getattr(self, key) for key in keys} | {"matched_share": round(self.share, 4)}

    def as_dict(self) -> dict[str, Any]:
        """All of it in plain values."""
        return asdict(self) | {"matched_share": round(self.share, 4)}

    def lines(self) -> list[str]:
        """The report as it is printed."""
        under = f" under {self.prefix!r}" if self.prefix else ""
        decoder = "from the file as well" if self.decoder else "has random weights"
        lines = [
            f"{self.file}: layout {self.layout}{under}, {self.matched} of {self.tensors} tensors of the backbone "
            f"matched ({self.share:.1%}); the decoder {decoder}"
        ]
        for what in ("missing", "other_shapes", "adapted", "unexpected"):
            if found := getattr(self, what):
                more = f", … ({len(found)} in all)" if len(found) > SHOWN else ""
                lines.append(f"{what.replace('_', ' ')}: {', '.join(found[:SHOWN])}{more}")
        if self.allow_supervised_init:
            lines.append("stamped as not fully self-supervised, as pretrain.allow_supervised_init is true")
        return lines


def import_weights(encoder: Encoder, path: Path, *, allow_supervised: bool) -> ImportReport:
    """Fill a backbone, and the decoder where the file is one of FS4's own.

    Args:
        encoder: Changed in place; what the file lacks stays as it is.
        path: The file; see `read_tensors`.
        allow_supervised: Whether weights that were trained with labels are accepted.

    Raises:
        InputError: The file cannot be read, fills less than 95 % of the backbone's tensors, has values that are not
            finite, was trained with labels (by a head in it, or the side-car beside it) and that is not allowed, or is
            of a network that only looks alike or is deeper.
    """
    tensors = read_tensors(path)
    backbone = encoder.architecture["backbone"]
    family = next(family for family in ANCHORS if backbone.startswith(family))
    wanted = {key: value for key, value in encoder.backbone.state_dict().items() if not _is_counter(key)}

    def inner(prefix: str) -> dict[str, torch.Tensor]:
        """What lies under a prefix, by our names."""
        rename = RENAMES[family]
        return {rename(name.removeprefix(prefix)): t for name, t in tensors.items() if name.startswith(prefix)}

    def rank(prefix: str) -> tuple[int, bool]:
        found = inner(prefix)
        return -sum(key in found for key in wanted), any(part in prefix for part in _SECOND)

    prefixes = find_prefixes(list(tensors), family)
    if not prefixes:
        raise InputError(
            f"{path}: has no weights of {backbone}; none of its {len(tensors)} keys ends with "
            f"{' or '.join(ANCHORS[family])}, it begins with {', '.join(list(tensors)[:3])}; see pretrain.backbone"
        )
    prefix = min(prefixes, key=rank)
    given = inner(prefix)
    refuse_lookalike_vits(path, backbone, prefix, given)
    fitted, adapted, other_shapes, used = fit_tensors(given, wanted)
    decoder = {
        key: tensors.get(f"{prefix.removesuffix('backbone.')}decoder.{key}") for key in encoder.decoder.state_dict()
    }
    has_decoder = prefix.endswith("backbone.") and all(
        value is not None and value.shape == own.shape
        for value, own in zip(decoder.values(), encoder.decoder.state_dict().values(), strict=True)
    )
    layout = name_layout(prefix, list(tensors))
    report = ImportReport(
        file=path.name,
        sha256=file_digest(path),
        layout=layout,
        prefix=prefix,
        tensors=len(wanted),
        matched=len(fitted),
        missing=sorted(wanted.keys() - given.keys()),
        unexpected=sorted(key for key in given.keys() - used if not _is_counter(key)),
        other_shapes=other_shapes,
        adapted=adapted,
        elsewhere=len(tensors) - len(given),
        decoder=has_decoder,
        head=find_head(tensors, prefixes, prefix, int(encoder.backbone.widths[-1])),
        labelled_sidecar=find_labelled_sidecar(path) if layout == "FS4" else "",
        allow_supervised_init=allow_supervised,
    )
    _check_fit(report, path, backbone, fitted)
    refuse_deeper(path, backbone, wanted, given)
    if not allow_supervised:
        _refuse_supervised(report, path)
    counters = {key: value for key, value in given.items() if _is_counter(key)}
    encoder.backbone.load_state_dict(fitted | counters, strict=False)
    if has_decoder:
        encoder.decoder.load_state_dict(decoder)
    return report


def _check_fit(report: ImportReport, path: Path, backbone: str, fitted: dict[str, torch.Tensor]) -> None:
    if report.share < MIN_SHARE:
        differences = report.other_shapes[: SHOWN // 2] + [f"missing {key}" for key in report.missing]
        differences += [f"unexpected {key}" for key in report.unexpected[: SHOWN // 2]]
        raise InputError(
            f"{path}: fills only {report.matched} of {report.tensors} tensors ({report.share:.1%}) of {backbone}, "
            f"{MIN_SHARE:.0%} are needed ({'; '.join(differences[:SHOWN])}); choose the pretrain.backbone that the "
            "weights are of"
        )
    if bad := [key for key, value in fitted.items() if not value.isfinite().all()]:
        raise InputError(f"{path}: {bad[0]} has values that are not finite; the training that made it had diverged")


def _refuse_supervised(report: ImportReport, path: Path) -> None:
    allow = (
        "To use them as a control, set pretrain.allow_supervised_init: true, and the report will say that the result "
        "is not fully self-supervised"
    )
    if report.labelled_sidecar:
        raise InputError(
            f"{path}: {report.labelled_sidecar} beside it says that labels were used (labels_used). {allow}"
        )
    if report.head:
        raise InputError(
            f"{path}: {report.head} is of a head that is trained with labels, so the weights were learnt from them. "
            f"{allow}; if only the head was, remove it from the file"
        )


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")
