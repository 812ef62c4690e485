"""Honest synthetic files: what facilities write, with known contents, for tests and demonstrations."""

from beamhub_reduction.synthetic.facility import build_demo_facility
from beamhub_reduction.synthetic.faults import write_damaged_file, write_dangling_link_file
from beamhub_reduction.synthetic.powder import PowderOptions, write_powder_scan
from beamhub_reduction.synthetic.tof import TofOptions, write_tof_run
from beamhub_reduction.synthetic.tomography import TomographyOptions, write_tomography_scan
from beamhub_reduction.synthetic.tree import AlreadyThere
from beamhub_reduction.synthetic.truth import Truth, read_truth_file, truth_from_json, update_truth_file
from beamhub_reduction.synthetic.xrf import XrfOptions, write_xrf_map

__all__ = [
    "AlreadyThere",
    "PowderOptions",
    "TofOptions",
    "TomographyOptions",
    "Truth",
    "XrfOptions",
    "build_demo_facility",
    "read_truth_file",
    "truth_from_json",
    "update_truth_file",
    "write_damaged_file",
    "write_dangling_link_file",
    "write_powder_scan",
    "write_tof_run",
    "write_tomography_scan",
    "write_xrf_map",
]
