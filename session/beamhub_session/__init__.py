"""What runs inside a user's server: it opens the planned template and tells what is mounted."""

from beamhub_session.extension import _jupyter_server_extension_points

__all__ = ["_jupyter_server_extension_points"]
