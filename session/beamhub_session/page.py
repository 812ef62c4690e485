"""The small pages of a session's server: what cannot be opened, the question before a copy, its clusters."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from string import Template

from beamhub_session.clusters import SeenCluster

_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 4rem auto; padding: 0 1rem; }
a.button, button { display: inline-block; font: inherit; padding: .5rem 1rem; margin: 1rem 1rem 0 0;
  border: 1px solid #0b5394; border-radius: .375rem;
  background: #0b5394; color: #fff; text-decoration: none; }
a.button:focus-visible, button:focus-visible { outline: 3px solid #f2a900; outline-offset: 2px; }
a.plain { background: transparent; color: inherit; border-color: currentColor; }
code { overflow-wrap: anywhere; }
th, td { text-align: left; padding: .25rem 1rem .25rem 0; }
</style>
</head>
<body><main>
<h1>$title</h1>
$body
</main></body>
</html>
"""
)


WHERE = {
    "gateway": "Beside this session",
    "threads": "In a notebook",
    "processes": "On a notebook's machine",
}


def problem_page(
    *,
    message: str,
    advice: str,
    reference: str,
    lab_url: str,
    title: str = "The template is not open",
    action: str = "Open JupyterLab",
) -> str:
    """The page that says what is wrong, and leads on."""
    body = (
        f"<p>{escape(message)}</p><p>{escape(advice)}</p>"
        "<p>The server runs, and your data and notebooks are as they were.</p>"
        f'<p><a class="button" href="{escape(lab_url)}">{escape(action)}</a></p>'
        f"<p>Reference for support: <code>{escape(reference)}</code></p>"
    )
    return _PAGE.substitute(title=escape(title), body=body)


def clusters_page(seen: Iterable[SeenCluster], *, base: str, xsrf_token: str) -> str:
    """The page that lists the session's clusters, each with its dashboards and a button that ends it."""
    rows = "".join(_cluster_row(one, base, xsrf_token) for one in seen)
    if not rows:
        body = (
            "<p>No notebook of this session has a cluster now. "
            "<code>beamhub_reduction.connect()</code> makes one.</p>"
        )
        return _PAGE.substitute(title="Clusters of this session", body=body)
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Cluster", "Size", "Works on", "Age", "", ""))
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return _PAGE.substitute(title="Clusters of this session", body=body)


def _cluster_row(seen: SeenCluster, base: str, xsrf_token: str) -> str:
    record, now = seen.record, seen.now
    short = escape(record.id[:8])
    name = f"{WHERE[record.kind]}, <code>{short}</code>"
    if now is None:
        return f'<tr><td>{name}</td><td colspan="5">does not answer now</td></tr>'
    memory = f", {now.memory_bytes / 2**30:.3g} GiB" if now.memory_bytes else ""
    size = f"{now.n_workers} workers, {now.n_threads} cores{memory}"
    return (
        f"<tr><td>{name}</td><td>{size}</td><td>{now.n_tasks_running} tasks</td>"
        f"<td>{round(now.age_s / 60)} min</td>"
        f'<td><a href="{escape(base)}/{record.id}/status">Dashboards of {short}</a></td>'
        f'<td><form method="post" action="{escape(base)}/{record.id}/stop">'
        f'<input type="hidden" name="_xsrf" value="{escape(xsrf_token)}">'
        f'<button type="submit">Stop {short}</button></form></td></tr>'
    )


def copy_page(*, notebook: str, action: str, xsrf_token: str, open_url: str) -> str:
    """The page that asks before a clean copy of the template is written."""
    body = (
        f"<p>You have worked with <code>{escape(notebook)}</code>. It stays as it is; "
        "a clean copy of the template gets the next free number.</p>"
        f'<form method="post" action="{escape(action)}">'
        f'<input type="hidden" name="_xsrf" value="{escape(xsrf_token)}">'
        '<button type="submit">Make a clean copy</button>'
        f'<a class="button plain" href="{escape(open_url)}">Open my notebook</a></form>'
    )
    return _PAGE.substitute(title="Start again from the template?", body=body)
