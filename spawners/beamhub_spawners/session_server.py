"""Run JupyterHub's single-user server without the optional imports that make it slow.

`rfc3987_syntax` compiles a grammar when it is imported: 1.05 of the 2.35 CPU seconds of a start
(measured, JupyterLab 4.6). Only jsonschema's optional check of the `iri` format uses it, and jsonschema
goes without when the import fails. None in `sys.modules` makes it fail (Python reference, "The import
system", 5.3.1).
"""

from __future__ import annotations

import sys

# What every server is configured with; images/base/jupyter_server_config.json holds the same. Language
# servers and the bridge for classic-notebook extensions are loaded by default and not needed: off by
# configuration they save 0.3 s of a start. Nobody installs Lab extensions into a read-only environment, and a
# session asks nobody outside the facility for news or newer versions.
SETTINGS: dict[str, dict[str, object]] = {
    "LabApp": {
        "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "extension_manager": "readonly",
        "news_url": None,
    },
    "ServerApp": {
        "jpserver_extensions": {"beamhub_session": True, "jupyter_lsp": False, "notebook_shim": False}
    },
}
# Lab asks each newcomer whether to fetch news, whatever `news_url` says; this answers for all.
LAB_SETTINGS: dict[str, dict[str, object]] = {
    "@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"}
}
LAB_SETTINGS_FILE = "labconfig/default_setting_overrides.json"
SLOW_AND_OPTIONAL = ("rfc3987_syntax",)


def view_arguments(view: str, notebooks: str) -> list[str]:
    """The arguments that make a session's view the root folder; the file browser opens at the notebooks."""
    return [f"--ServerApp.root_dir={view}", f"--FileContentsManager.preferred_dir={notebooks}"]


def bar_slow_imports() -> None:
    """Have jsonschema go without what is slow and optional, before it is imported; the hub does it, too."""
    for name in SLOW_AND_OPTIONAL:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None is how an import is barred


def main() -> None:
    """Start the server with the arguments of this process."""
    bar_slow_imports()
    from jupyterhub.singleuser import main as serve  # after the bars: it imports jsonschema

    serve()


if __name__ == "__main__":
    main()
