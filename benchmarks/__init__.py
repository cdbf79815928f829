"""Benchmarks: how fast the engine is beside a peer measured in the same run."""
