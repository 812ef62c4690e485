"""The embedded platform: everything on one machine, for one person, from one command."""

from beamhub_core.demo.layout import DemoLayout, Ports
from beamhub_core.demo.prepare import prepare
from beamhub_core.demo.supervisor import Child, Supervisor

__all__ = ["Child", "DemoLayout", "Ports", "Supervisor", "prepare"]
