"""The PaNET terms that we name in code, with the ontology's own labels.

Source: PaNET ontology, http://purl.org/pan-science/PaNET/ (CC-BY 4.0), source/PaNET.csv of May 2026.
"""

from __future__ import annotations

POWDER_DIFFRACTION = "http://purl.org/pan-science/PaNET/PaNET01101"
TOF_POWDER_DIFFRACTION = "http://purl.org/pan-science/PaNET/PaNET01100"
"""PaNET has no narrower term for time of flight."""
X_RAY_TOMOGRAPHY = "http://purl.org/pan-science/PaNET/PaNET01207"
SCANNING_X_RAY_FLUORESCENCE = "http://purl.org/pan-science/PaNET/PaNET01288"
PHOTON_AND_NEUTRON_TECHNIQUE = "http://purl.org/pan-science/PaNET/PaNET00001"
SMALL_ANGLE_X_RAY_SCATTERING = "http://purl.org/pan-science/PaNET/PaNET01188"
SPATIAL_MAP = "http://purl.org/pan-science/PaNET/PaNET00401"
X_RAY_PROBE = "http://purl.org/pan-science/PaNET/PaNET01012"

LABELS = {
    POWDER_DIFFRACTION: "x-ray powder diffraction",
    TOF_POWDER_DIFFRACTION: "neutron powder diffraction",
    X_RAY_TOMOGRAPHY: "x-ray tomography",
    SCANNING_X_RAY_FLUORESCENCE: "scanning x-ray fluorescence",
    PHOTON_AND_NEUTRON_TECHNIQUE: "photon and neutron technique",
    SMALL_ANGLE_X_RAY_SCATTERING: "small angle x-ray scattering",
    SPATIAL_MAP: "obtain spatial map",
    X_RAY_PROBE: "x-ray probe technique",
}


def technique_label(term: str) -> str:
    """The label of a PaNET term, or the term itself when we do not know it."""
    return LABELS.get(term, term)
