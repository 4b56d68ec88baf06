"""Scoring label maps against masks, the only room that reads labels."""
