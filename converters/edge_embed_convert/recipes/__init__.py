"""Quantization recipes: their grammar, how they are applied, and calibration."""
