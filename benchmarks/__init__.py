"""Benchmarks of speed and memory against references; each module prints tables."""
