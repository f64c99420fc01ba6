"""Benchmarks: `python -m spc_platform_tests.bench` runs all and writes docs/benchmarks.md; with names, those only."""
