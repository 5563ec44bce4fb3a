"""Measure latency, memory and quality of embedding models."""
