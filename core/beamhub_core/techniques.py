"""The PaNET terms that we name in code.

Source: PaNET ontology, http://purl.org/pan-science/PaNET/ (CC-BY 4.0).
"""

from __future__ import annotations

POWDER_DIFFRACTION = "http://purl.org/pan-science/PaNET/PaNET01100"
TOF_POWDER_DIFFRACTION = "http://purl.org/pan-science/PaNET/PaNET01098"
X_RAY_TOMOGRAPHY = "http://purl.org/pan-science/PaNET/PaNET01207"
FLUORESCENCE_MICROSCOPY = "http://purl.org/pan-science/PaNET/PaNET01113"
PHOTON_AND_NEUTRON_TECHNIQUE = "http://purl.org/pan-science/PaNET/PaNET00001"
SMALL_ANGLE_X_RAY_SCATTERING = "http://purl.org/pan-science/PaNET/PaNET01188"
SPATIAL_MAP = "http://purl.org/pan-science/PaNET/PaNET00401"
X_RAY_PROBE = "http://purl.org/pan-science/PaNET/PaNET01012"

LABELS = {
    POWDER_DIFFRACTION: "powder diffraction",
    TOF_POWDER_DIFFRACTION: "time-of-flight neutron powder diffraction",
    X_RAY_TOMOGRAPHY: "x-ray tomography",
    FLUORESCENCE_MICROSCOPY: "fluorescence microscopy",
    PHOTON_AND_NEUTRON_TECHNIQUE: "photon and neutron technique",
    SMALL_ANGLE_X_RAY_SCATTERING: "small angle x-ray scattering",
    SPATIAL_MAP: "obtain spatial map",
    X_RAY_PROBE: "x-ray probe",
}


def technique_label(term: str) -> str:
    """The label of a PaNET term, or the term itself when we do not know it."""
    return LABELS.get(term, term)
