"""A person at a browser: follows redirects, fills in forms, keeps cookies. No API, no token."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from journey.names import BrowserTransport


@dataclass
class Form:
    """One form of a page, with the values it would send as it stands."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    text: str = ""


class Page(HTMLParser):
    """What a person sees of a page: title, text, links by text, forms."""

    def __init__(self, url: str, status: int, html: str) -> None:
        super().__init__()
        self.url, self.status, self.html = url, status, html
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._link: str | None = None
        self._link_text: list[str] = []
        self._form: Form | None = None
        self._select: str | None = None
        self._silent = 0
        self.feed(html)

    @property
    def text(self) -> str:
        """The visible text, white space folded."""
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note links, forms and their fields."""
        a = {name: value or "" for name, value in attrs}
        if tag in ("script", "style"):
            self._silent += 1
        elif tag == "a" and "href" in a:
            self._link, self._link_text = urljoin(self.url, a["href"]), []
        elif tag == "form":
            self._form = Form(urljoin(self.url, a.get("action", "")), a.get("method", "get").lower())
            self.forms.append(self._form)
        elif self._form is not None and tag == "input" and a.get("name"):
            unchecked = a.get("type") in ("checkbox", "radio") and "checked" not in a
            if not unchecked:  # a button counts only when it is the one that was pressed
                self._form.fields.setdefault(a["name"], a.get("value", ""))
        elif self._form is not None and tag == "select":
            self._select = a.get("name")
        elif self._form is not None and tag == "option" and self._select:
            if self._select not in self._form.fields or "selected" in a:
                self._form.fields[self._select] = a.get("value", "")
        elif self._form is not None and tag == "textarea" and a.get("name"):
            self._form.fields.setdefault(a["name"], "")

    def handle_endtag(self, tag: str) -> None:
        """Close what was open."""
        if tag in ("script", "style"):
            self._silent -= 1
        elif tag == "a" and self._link is not None:
            self.links.append((" ".join(" ".join(self._link_text).split()), self._link))
            self._link = None
        elif tag == "form":
            self._form = None
        elif tag == "select":
            self._select = None

    def handle_data(self, data: str) -> None:
        """Collect visible text."""
        if self._silent:
            return
        self.words.append(data)
        if self._link is not None:
            self._link_text.append(data)
        if self._form is not None:
            self._form.text += data

    def link(self, words: str) -> str:
        """Where the first link whose text holds the words leads."""
        for text, href in self.links:
            if words.lower() in text.lower():
                return href
        raise LookupError(f"no link {words!r} on {self.url}: {[text for text, _ in self.links]}")

    def form(self, words: str) -> Form:
        """The first form whose action or text holds the words."""
        for form in self.forms:
            if words.lower() in (form.action + " " + form.text).lower():
                return form
        raise LookupError(f"no form {words!r} on {self.url}: {[form.action for form in self.forms]}")


class Person:
    """Somebody with a browser of their own."""

    def __init__(self, base_url: str, subject: str) -> None:
        self.base_url, self.subject = base_url, subject
        self.http = httpx.Client(
            follow_redirects=True,
            timeout=60,
            headers={"User-Agent": "Mozilla/5.0 (journey)"},
            transport=BrowserTransport(),
        )

    def close(self) -> None:
        """Close the browser."""
        self.http.close()

    def visit(self, url: str) -> Page:
        """Open a page, as typing its address does."""
        answer = self.http.get(urljoin(self.base_url, url), headers={"Sec-Fetch-Mode": "navigate"})
        return Page(str(answer.url), answer.status_code, answer.text)

    def submit(self, form: Form, **values: str) -> Page:
        """Send a form as it stands, with some fields filled in."""
        fields = {**form.fields, **values}
        headers = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
        parts = urlsplit(form.action)
        headers["Origin"] = f"{parts.scheme}://{parts.netloc}"
        if form.method == "post":
            answer = self.http.post(form.action, data=fields, headers=headers)
        else:
            answer = self.http.get(form.action, params=fields, headers=headers)
        return Page(str(answer.url), answer.status_code, answer.text)

    def log_in(self, start: str) -> Page:
        """Start at a page, come to the provider's own form, choose the subject, and return."""
        page = self.visit(start)
        if not any("sub" in form.fields for form in page.forms):
            page = self.visit(page.link("log in"))
        for _ in range(4):
            chooser = next((form for form in page.forms if "sub" in form.fields), None)
            onward = next((href for _, href in page.links if "/hub/login/" in href), None)
            if chooser is not None:
                page = self.submit(chooser, sub=self.subject)
            elif "/hub/login" in page.url and onward is not None:
                page = self.visit(onward)
            else:
                break
        if page.status >= 400:
            raise RuntimeError(
                f"login of {self.subject} ended on {page.url} with {page.status}: {page.text[:400]}"
            )
        return page

    def cookie(self, name: str, url: str) -> str | None:
        """The cookie that a browser would send to an address; the longest cookie path wins."""
        parts = urlsplit(url)
        found = [
            c
            for c in self.http.cookies.jar
            if c.name == name and parts.path.startswith(c.path) and _meets(str(parts.hostname), c.domain)
        ]
        return max(found, key=lambda c: len(c.path)).value if found else None

    def cookie_header(self, url: str) -> str:
        """The Cookie header for a websocket to `url`."""
        request = self.http.build_request("GET", url)
        return request.headers.get("cookie", "")

    def call(self, method: str, url: str, body: Any = None) -> httpx.Response:
        """A request that a page's own script would send, with its XSRF token."""
        token = self.cookie("_xsrf", url) or ""
        headers = {
            "X-XSRFToken": token,
            "Referer": url,
            "Sec-Fetch-Mode": "cors",
            "Sec-Fetch-Site": "same-origin",
        }
        return self.http.request(method, url, json=body, headers=headers)

    def poll(self, url: str, until: Any, *, seconds: float) -> Any:
        """The JSON at `url` once `until(json)` holds."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.http.get(url)
            if answer.status_code == 200:
                value = answer.json()
                if until(value):
                    return value
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{url} did not come to it in {seconds:.0f} s: {answer.status_code} {answer.text[:300]}"
                )
            time.sleep(0.25)


def _meets(host: str, domain: str) -> bool:
    """Whether a cookie of a domain goes to a host; one set without a domain goes to its own host only."""
    return host == domain or (domain.startswith(".") and f".{host}".endswith(domain))
