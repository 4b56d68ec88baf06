"""FS4: fully self-supervised semantic segmentation from a folder of images."""
