"""Honest synthetic files: what facilities write, with known contents, for tests and demonstrations."""

from beamhub_reduction.synthetic.facility import build_demo_facility
from beamhub_reduction.synthetic.faults import write_damaged_file, write_dangling_link_file
from beamhub_reduction.synthetic.layouts import (
    LayoutTruth,
    write_bliss_scan,
    write_dls_scan,
    write_jungfrau_run,
    write_maxiv_scan,
)
from beamhub_reduction.synthetic.layouts_neutron import write_ill_scan, write_pulsed_header
from beamhub_reduction.synthetic.nxmx import NxmxOptions, write_nxmx_run
from beamhub_reduction.synthetic.powder import PowderOptions, write_powder_scan
from beamhub_reduction.synthetic.tof import TofOptions, write_tof_run
from beamhub_reduction.synthetic.tomography import TomographyOptions, write_tomography_scan
from beamhub_reduction.synthetic.tree import AlreadyThere
from beamhub_reduction.synthetic.truth import Truth, read_truth_file, truth_from_json, update_truth_file
from beamhub_reduction.synthetic.xrf import XrfOptions, write_xrf_map

__all__ = [
    "AlreadyThere",
    "LayoutTruth",
    "NxmxOptions",
    "PowderOptions",
    "TofOptions",
    "TomographyOptions",
    "Truth",
    "XrfOptions",
    "build_demo_facility",
    "read_truth_file",
    "truth_from_json",
    "update_truth_file",
    "write_bliss_scan",
    "write_damaged_file",
    "write_dangling_link_file",
    "write_dls_scan",
    "write_ill_scan",
    "write_jungfrau_run",
    "write_maxiv_scan",
    "write_nxmx_run",
    "write_powder_scan",
    "write_pulsed_header",
    "write_tof_run",
    "write_tomography_scan",
    "write_xrf_map",
]
