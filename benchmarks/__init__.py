"""Timings that are printed and never asserted."""
