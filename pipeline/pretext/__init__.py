"""Self-supervised training of a backbone from random weights."""
