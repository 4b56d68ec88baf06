"""What must hold between the keys of group `pretrain`."""

from __future__ import annotations

from pipeline.params.pretrain import PretrainParams

TILED_VIEW = 96  # smallest view whose nine tiles are not enlarged much


def find_pretext_problems(pretrain: PretrainParams) -> list[str]:
    """Problems of group `pretrain` that depend on its method, one line each with the key, the value and the mend."""
    problems, views = [], pretrain.views
    if pretrain.method == "rotation" and (views.rotate or views.flip_vertical):
        key = "rotate" if views.rotate else "flip_vertical"
        problems.append(
            f"pretrain.views.{key}: true turns the views, and pretrain.method rotation asks how they were turned; set "
            "it to false, or choose another method"
        )
    if pretrain.method == "jigsaw" and pretrain.view_size < TILED_VIEW:
        problems.append(
            f"pretrain.view_size: {pretrain.view_size} is too small for the nine tiles of pretrain.method jigsaw; give "
            f"{TILED_VIEW} or more"
        )
    if pretrain.method == "mae" and not pretrain.backbone.startswith("vit"):
        problems.append(
            f"pretrain.method: mae drops patches, which pretrain.backbone {pretrain.backbone} cannot; take "
            "vit_small_patch16 or vit_small_patch8, or method simmim"
        )
    if pretrain.method == "simmim":
        if pretrain.view_size % pretrain.masking.patch:
            problems.append(
                f"pretrain.masking.patch: {pretrain.masking.patch} does not divide pretrain.view_size "
                f"{pretrain.view_size}; give 8, 16 or 32"
            )
        elif pretrain.masking.patch > pretrain.view_size // 2:
            problems.append(
                f"pretrain.masking.patch: {pretrain.masking.patch} leaves nothing to see of pretrain.view_size "
                f"{pretrain.view_size}; give at most half"
            )
    return problems
