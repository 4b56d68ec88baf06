"""k-means, and the pyramid of pseudo labels that it gives."""
