"""The first process of a cluster's container: fetch certificate and key, then be the scheduler or worker.

`python -P -m beamhub_spawners.dask_start MODULE ARGUMENTS...`. A container with a read-only root takes no
file before it starts, and whoever inspects it sees its environment: so the pair is fetched with the cluster's
token and lies in the container's own memory. Standard library only: it stands before every start.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

RUN_FOLDER = Path("/run/beamhub")
EXIT_NOT_STARTED = 70
TRIES_S = 20.0
PAUSE_S = 0.2
TIMEOUT_S = 5.0
MAX_BYTES = 100_000
TOKEN_VARIABLE = "DASK_GATEWAY_API_TOKEN"  # noqa: S105 - a variable's name
MODULES = ("distributed.cli.dask_scheduler", "distributed.cli.dask_worker")


def fetch_pair(api_url: str, cluster: str, token: str) -> dict[str, str]:
    """Certificate and key of a cluster, as the gateway gives them to its own parts.

    Raises
    ------
    OSError
        If the gateway refuses, or does not answer within 20 seconds.
    ValueError
        If it answers something else.
    """
    request = urllib.request.Request(  # noqa: S310 - of the rendered environment
        f"{api_url}/v1/clusters/{cluster}/pair", headers={"Authorization": f"token {token}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + TRIES_S
    while True:
        try:
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                said = json.loads(answer.read(MAX_BYTES))
            return {"dask.crt": said["certificate"], "dask.pem": said["key"]}
        except urllib.error.HTTPError as error:
            if error.code < 500 or time.monotonic() > until:
                raise
        except (urllib.error.URLError, TimeoutError):
            if time.monotonic() > until:
                raise
        except (KeyError, TypeError) as error:
            raise ValueError("the gateway's answer has no certificate") from error
        time.sleep(PAUSE_S)


def write_files(folder: Path, texts: dict[str, str]) -> None:
    """Write files for their owner only."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, text in texts.items():
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)


def main() -> int:
    """Become the part; returns only when that failed."""
    try:
        module = sys.argv[1]
        if module not in MODULES:
            raise ValueError(f"{module!r} is no part of a cluster")
        os.umask(0o077)
        token = os.environ[TOKEN_VARIABLE]
        pair = fetch_pair(os.environ["DASK_GATEWAY_API_URL"], os.environ["DASK_GATEWAY_CLUSTER_NAME"], token)
        write_files(RUN_FOLDER, {**pair, "token": token})
        os.environ[TOKEN_VARIABLE] = str(RUN_FOLDER / "token")  # dask-gateway reads a path, too
        os.chdir(RUN_FOLDER)
        os.execv(sys.executable, [sys.executable, "-P", "-m", *sys.argv[1:]])  # noqa: S606
    except (OSError, ValueError, KeyError, IndexError) as error:
        sys.stderr.write(f"This part of the cluster does not start: {type(error).__name__}: {error}\n")
    return EXIT_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main())
