"""How the result came about: parameters, versions, digests, and whether labels were used on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.report.inputs import ReportInputs, optional_json
from pipeline.runtime.artifacts import MANIFEST, Artifact
from pipeline.runtime.digests import file_digest

_SUPERVISED = re.compile(r"(?<!self-)(?<!self_)(?<!self )(?<!un)supervised", re.IGNORECASE)
_LONG_LIST = 12


@dataclass(frozen=True)
class Badge:
    """A short statement about the whole run; tone is `good`, `plain` or `warning`."""

    text: str
    explanation: str
    tone: str


@dataclass(frozen=True)
class Source:
    """One folder: its manifest's digest, and for each of its inputs whether it is the one shown here."""

    folder: str
    stage: str
    digest: str
    files: int
    megabytes: float
    machine: str
    inputs: list[tuple[str, str, str]]  # path, digest, "same", "other" or "not read here"


def label_badges(sidecars: Mapping[str, Mapping[str, Any]], pretrain_method: str | None) -> list[Badge]:
    """State whether labels were used before the evaluation, from what the models say about themselves.

    Args:
        sidecars: The JSON side-cars by name, `backbone` and `segmenter`.
        pretrain_method: `pretrain.method`, or None when unknown.

    Returns:
        One badge about labels, and one when the backbone is random or came from a file.
    """
    used = [name for name, sidecar in sidecars.items() if sidecar.get("labels_used")]
    supervised = [name for name, sidecar in sidecars.items() if _starts_supervised(sidecar)]
    if supervised:
        badge = Badge(
            "not fully self-supervised",
            f"The {' and the '.join(supervised)} started from supervised weights: a control, not a result.",
            "warning",
        )
    elif used:
        badge = Badge(
            "labels were used in training",
            f"The side-car of the {' and the '.join(used)} says so: a control, not a result.",
            "warning",
        )
    elif sidecars.get("segmenter", {}).get("labels_used") is None:
        badge = Badge(
            "use of labels not stated",
            "The segmenter's side-car does not say whether labels were used; train again.",
            "warning",
        )
    else:
        badge = Badge(
            "no labels used before evaluation",
            "Masks are opened by the evaluation only, after the last weights were written.",
            "good",
        )
    if checkpoint := sidecars.get("backbone", {}).get("checkpoint"):
        word = (
            f"The backbone began with {checkpoint['file']} (layout {checkpoint['layout']}, sha256 "
            f"{checkpoint['sha256'][:12]}, {checkpoint['matched_share']:.1%} of its tensors). How these were trained "
            "is the word of whoever chose them."
        )
        return [badge, Badge("imported backbone", word, "plain")]
    if pretrain_method == "none":
        control = "The backbone was not pre-trained: its weights were random at the start."
        return [badge, Badge("random backbone (control)", control, "plain")]
    return [badge]


def trace_sources(inputs: ReportInputs) -> list[Source]:
    """List the folders with their digests, and check that each was made from the others shown here.

    Args:
        inputs: What the report reads.

    Returns:
        The folders in the order of the stages.
    """
    artifacts = inputs.artifacts
    digests = {name: file_digest(artifact.path / MANIFEST) for name, artifact in artifacts.items()}
    return [_source(name, artifact, digests) for name, artifact in artifacts.items()]


def _source(name: str, artifact: Artifact, digests: Mapping[str, str]) -> Source:
    manifest = artifact.manifest
    made_from = []
    for path, digest in sorted(manifest.get("inputs", {}).items()):
        known = digests.get(path.rsplit("/", 1)[-1])
        state = "not read here" if known is None else "same" if known == digest else "other"
        made_from.append((path, digest, state))
    machine = manifest.get("machine", {})
    return Source(
        folder=name,
        stage=manifest.get("stage", ""),
        digest=digests[name],
        files=len(manifest["files"]),
        megabytes=sum(entry["bytes"] for entry in manifest["files"].values()) / 1e6,
        machine=", ".join(f"{key} {value}" for key, value in sorted(machine.items())),
        inputs=made_from,
    )


def collect_params(inputs: ReportInputs, own: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """The parameters of every stage, by group, flattened.

    Args:
        inputs: What the report reads.
        own: Parameters of the report itself.

    Returns:
        Per group the full keys below the group, with their values as text.
    """
    groups: dict[str, Any] = {}
    for manifest in [*inputs.manifests, *(artifact.manifest for artifact in inputs.artifacts.values())]:
        groups.update(manifest.get("params", {}))
    groups["report"] = dict(own)
    return {group: flatten(values) for group, values in groups.items()}


def collect_versions(inputs: ReportInputs) -> list[tuple[str, list[str]]]:
    """The library versions that made the folders; more than one version of a library is worth a look.

    Args:
        inputs: What the report reads.

    Returns:
        Libraries by name with their distinct versions.
    """
    found: dict[str, set[str]] = {}
    for artifact in inputs.artifacts.values():
        for library, version in artifact.manifest.get("versions", {}).items():
            found.setdefault(library, set()).add(str(version))
    return [(library, sorted(versions)) for library, versions in sorted(found.items())]


def read_sidecars(inputs: ReportInputs) -> dict[str, dict[str, Any]]:
    """What the models say about themselves."""
    return {
        "backbone": optional_json(inputs.backbone, "backbone.json") or {},
        "segmenter": optional_json(inputs.segmenter, "segmenter.json") or {},
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as lines of key and text; long lists are cut.

    >>> flatten({"a": {"b": [1, 2], "c": False}})
    [('a.b', '1, 2'), ('a.c', 'no')]
    """
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += flatten(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", _text(value)))
    return lines


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        shown = ", ".join(_text(item) for item in value[:_LONG_LIST])
        return f"{shown}, … ({len(value)} values)" if len(value) > _LONG_LIST else shown
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _starts_supervised(sidecar: Mapping[str, Any]) -> bool:
    return any(
        (key.split(".")[-1] == "allow_supervised_init" and text == "yes")
        or (key.split(".")[-1].startswith("init") and _SUPERVISED.search(text) is not None)
        for key, text in flatten(sidecar)
    )
