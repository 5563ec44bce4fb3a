"""Calibration: texts to fit to, and rounding that keeps what they compute."""
