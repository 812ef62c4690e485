"""What runs inside a user's server: it opens the planned template, tells what is mounted, and gets tokens."""

from beamhub_session.extension import _jupyter_server_extension_points
from beamhub_session.service_token import service_token

__all__ = ["_jupyter_server_extension_points", "service_token"]
