"""Calibration: texts, and rounding that preserves what a model computes for them."""
