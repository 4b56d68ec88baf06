"""Encoders with random or self-supervised weights, and the decoder on top of them."""
