"""The text of `fs4 doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pipeline.data.sources.registry import PROTOCOLS, SOURCES, recognise_source
from pipeline.doctor.costs import Costs, Rates, estimate_costs, measure_rates, peak_memory
from pipeline.doctor.survey import Survey, survey_source
from pipeline.errors import InputError, ParamsError
from pipeline.params import DataParams, Params
from pipeline.params.presets import find_presets, overlay_presets
from pipeline.runtime.device import thread_count

SHOWN = 10  # problems


def examine_data(root: Path, source: str, params: Params, presets: Sequence[str] = ()) -> tuple[str, bool]:
    """Look a data folder over.

    Args:
        root: The folder.
        source: Name of the source; empty: the one whose layout the folder has.
        params: All parameters; of `data`, source and root are replaced, and the protocol where it is of another source.
        presets: Names of presets that are laid over them; without any, the one for the first protocol of a published
            source, if there is just one and the parameters are not for that source as they are.

    Returns:
        The text, and whether no problem was found.

    Raises:
        ParamsError: There is no such source or preset, or the parameters do not fit the presets.
    """
    if source and source not in (*SOURCES, "folder"):
        raise ParamsError(f"--source: {source!r} is no source; known are folder, {', '.join(SOURCES)}")
    name = source or recognise_source(root)
    layout = SOURCES[name].layout if name in SOURCES else "images/<split>/**, masks/<split>/**.png, or images alone"
    lines = [_line("layout", f"{name} ({'as asked' if source else 'recognised'}): {layout}")]
    params, settings = _choose_settings(name, params, presets)
    lines.append(_line("settings", settings))
    data = _data_of(name, root, params.data)
    try:
        survey = survey_source(data, root)
    except InputError as error:
        return "\n".join([*lines, _line("problem", str(error))]), False
    lines += [*_describe_splits(survey, name in SOURCES), *_describe_pixels(survey, data), *_describe_masks(survey)]
    lines += [_line("note", note) for note in survey.notes]
    lines += [_line("problem", problem) for problem in survey.problems[:SHOWN]]
    if len(survey.problems) > SHOWN:
        lines.append(_line("problem", f"... and {len(survey.problems) - SHOWN} more"))
    if survey.sizes:
        size = sorted(survey.sizes)[len(survey.sizes) // 2]
        rates = measure_rates(params, size, survey.seconds)
        images, train = _used(survey, None, data.limit), _used(survey, "train", data.limit)
        costs = estimate_costs(params, images, train, size, rates, _tile_bytes(survey, data))
        lines += _describe_costs(costs, rates, params, size, images)
    return "\n".join(lines), not survey.problems


def _choose_settings(name: str, params: Params, presets: Sequence[str]) -> tuple[Params, str]:
    """Parameters for a source, and where they are from."""
    if presets:
        return overlay_presets(params, presets), f"params.yaml with preset {' and '.join(presets)}, as asked"
    # who names the source in params.yaml has set the rest for it too
    found = [] if params.data.source == name else _presets_of(name)
    if len(found) != 1:
        return params, "params.yaml as it is; --preset lays presets over it"
    try:
        chosen = overlay_presets(params, found)
    except ParamsError as error:
        return params, f"params.yaml as it is, as preset {found[0]} does not fit it ({error})"
    return chosen, f"params.yaml with preset {found[0]}, which is for this protocol; --preset takes others"


def _presets_of(name: str) -> list[str]:
    return find_presets(name, SOURCES[name].protocols[0].name) if name in SOURCES else []


def _data_of(name: str, root: Path, data: DataParams) -> DataParams:
    fits = data.protocol in PROTOCOLS and data.protocol.startswith(f"{name}-")
    lists = data.id_lists if name == data.source else "all"
    changes = {"source": name, "root": str(root), "protocol": data.protocol if fits else "auto", "id_lists": lists}
    return data.model_copy(update=changes)


def _tile_bytes(survey: Survey, data: DataParams) -> float:
    if not survey.tiled:
        return 0.0
    value = np.dtype(survey.bands.values).itemsize if survey.bands else 1  # bytes
    return float((data.tile or SOURCES[data.source].tile) ** 2 * data.channels * value)


def _used(survey: Survey, split: str | None, limit: int) -> int:
    splits = sorted({image.split for image in survey.images}) if split is None else [split]
    return sum(min(limit or count, count) for count in (survey.count(name)[0] for name in splits))


def _describe_splits(survey: Survey, published: bool) -> Iterable[str]:
    for split in sorted({image.split for image in survey.images}):
        images, masks = survey.count(split)
        yield _line(f"split {split}", f"{images} images, {masks} with masks")
    if not survey.count("val")[0] and (published or survey.count()[1]):
        yield _line(
            "split val", "none; unless evaluate.split names another split, train is scored, from which all is learned"
        )


def _describe_pixels(survey: Survey, data: DataParams) -> Iterable[str]:
    if survey.tiled:
        side = data.tile or SOURCES[data.source].tile
        yield _line(
            "tiles",
            f"{sum(image.window is not None for image in survey.images)} of {side} px, {data.tile_overlap} px of it "
            f"shared with neighbours, from {survey.tiled} images; the figures above and below count tiles",
        )
    if survey.channels:
        found = ", ".join(f"{count} in {files} files" for count, files in sorted(survey.channels.items()))
        read = "read as RGB" if data.channels == 3 else f"expected are {data.channels}"
        yield _line("channels", f"{found} of a random sample; {read} (data.channels)")
    many = [count for count in survey.channels if count > 3]
    if data.channels == 3 and many:
        yield _line(
            "",
            f"as RGB a fourth channel is taken for transparency, and more are refused; if they are bands, set "
            f"data.channels to {max(many)}",
        )
    if survey.bands and survey.bands.values != "uint8":
        low, high = ", ".join(f"{v:.4g}" for v in survey.bands.low), ", ".join(f"{v:.4g}" for v in survey.bands.high)
        yield _line(
            "values", f"{survey.bands.values}, about {low} to {high}; beyond that they are clipped, as prepare decides"
        )


def _describe_masks(survey: Survey) -> Iterable[str]:
    if not survey.masks:
        yield _line("masks", "none were read; everything but the scores works without")
        return
    protocol = f", as protocol {survey.protocol} says" if survey.protocol else ""
    yield _line("masks", f"{survey.masks} of a random sample were read just now for you{protocol}; training reads none")
    counted = sum(survey.pixels.values())
    for name, pixels in sorted(survey.pixels.items(), key=lambda item: -item[1]):
        if pixels:
            yield _line("", f"{100 * pixels / counted:5.1f} %  {name}")
    if absent := [name for name, pixels in survey.pixels.items() if not pixels]:
        yield _line("", f"not in the sample: {', '.join(absent)}")
    yield _line("", f"{100 * survey.ignored / max(counted + survey.ignored, 1):.1f} % of the pixels are ignored")


def _describe_costs(costs: Costs, rates: Rates, params: Params, size: tuple[int, int], images: int) -> Iterable[str]:
    sizes = {f"{stage} {what}": size for stage, held in costs.bytes.items() for what, size in held.items()}
    parts = ", ".join(f"{name} {_megabytes(value)}" for name, value in sizes.items() if value)
    yield _line("disk", f"about {_megabytes(sum(sizes.values()))} at most, before compression: {parts}")
    held = peak_memory()
    yield _line(
        "memory",
        f"at least {_megabytes(held + costs.cache)}: {_megabytes(held)} that this command held with small batches, and "
        f"{_megabytes(costs.cache)} of decoded frames (run.cache_mb); larger batches take more",
    )
    parts = ", ".join(f"{stage} {_duration(value)}" for stage, value in costs.seconds.items())
    yield _line("time", f"about {_duration(sum(costs.seconds.values()))} on an idle machine: {parts}")
    h, w = size
    yield _line(
        "",
        f"for {images} images with frames of {w} x {h} px and train.k {params.train.k}, from steps timed just now on "
        f"{rates.device} ({thread_count(params.run)} threads): {1000 * rates.decode:.0f} ms to decode an image, "
        f"{1000 * rates.pretext:.0f} ms a view of pre-training, {1000 * rates.train:.0f} ms a view of training; "
        "on a busy machine everything takes longer",
    )
    yield _line(
        "not counted",
        "time of losses and views, of floors and report, of reading and writing; disk of lists of images, and of a "
        "second copy of all in DVC's cache where the file system has no links",
    )


def _line(name: str, text: str) -> str:
    return f"{name:12} {text}"


def _megabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
