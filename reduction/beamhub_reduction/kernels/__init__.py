"""Compiled inner loops, each beside a NumPy or SciPy form that gives the same numbers."""

from beamhub_reduction.kernels.native import active_path, available_paths, describe_kernels, using_path
from beamhub_reduction.kernels.shuffle import unshuffle

__all__ = ["active_path", "available_paths", "describe_kernels", "unshuffle", "using_path"]
