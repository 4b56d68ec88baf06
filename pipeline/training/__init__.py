"""The epoch loop, checkpoints and curves that pretext and segmentation share."""
