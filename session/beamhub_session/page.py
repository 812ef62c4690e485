"""The two small pages of the opener: a template that cannot be opened, and the question before a copy."""

from __future__ import annotations

from html import escape
from string import Template

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
</style>
</head>
<body><main>
<h1>$title</h1>
$body
</main></body>
</html>
"""
)


def problem_page(*, message: str, advice: str, reference: str, lab_url: str) -> str:
    """The page that says why the template is not open and leads on to JupyterLab."""
    body = (
        f"<p>{escape(message)}</p><p>{escape(advice)}</p>"
        "<p>The server runs, and your data and notebooks are as they were.</p>"
        f'<p><a class="button" href="{escape(lab_url)}">Open JupyterLab</a></p>'
        f"<p>Reference for support: <code>{escape(reference)}</code></p>"
    )
    return _PAGE.substitute(title="The template is not open", body=body)


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
