"""Runs that are compared with each other, made as DVC experiments."""
