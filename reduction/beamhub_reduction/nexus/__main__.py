"""The child process of `confined`: `python -m beamhub_reduction.nexus CPU_SECONDS`."""

import sys

from beamhub_reduction.nexus.confined import main

if __name__ == "__main__":
    sys.exit(main())
