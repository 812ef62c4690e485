"""Reduction of NeXus files on Dask: `connect` gives a client, `open_run` a run that can be reduced."""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beamhub_reduction.cluster import connect
    from beamhub_reduction.run import open_run

__all__ = ["connect", "open_run"]


def __getattr__(name: str) -> Any:
    """Load the public functions when first used: the reader must not pay for Dask and pyFAI."""
    # pyFAI's library warns in every notebook that there is no OpenCL, which nobody asked for.
    logging.getLogger("silx.opencl.common").setLevel(logging.ERROR)
    if name == "connect":
        from beamhub_reduction.cluster import connect

        return connect
    if name == "open_run":
        from beamhub_reduction.run import open_run

        return open_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
