"""The segmenter: context-aware embedding, losses, prototypes and inference."""
