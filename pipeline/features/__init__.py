"""Pyramid features of images in Parquet shards."""
