"""Who may ask: requests by a name of this service, and from its own pages if from a page.

A browser sends a stranger's page to 127.0.0.1 as well: by a name of the stranger's that points
there (DNS rebinding), or by a form or script that posts to it (CSRF). The first gives a foreign
Host, the second a foreign Origin.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ANY = "*"


class Guard:
    """Middleware that refuses requests with a foreign Host or Origin."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app, self._hosts = app, frozenset(map(str.lower, hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, sentence = refusal
        await JSONResponse({"detail": sentence}, status)(scope, receive, send)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        if ANY in self._hosts:
            return None
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_known(hosts[0]):
            return 421, (
                "The host must be an IP address or a name that this service was told, such as "
                f"{min(self._hosts, default='none')}. Got {', '.join(hosts)[:100] or 'none'}."
            )
        for origin in headers.getlist("origin"):
            # The scheme may differ behind a proxy that ends TLS; the host may not.
            if urlsplit(origin).netloc.lower() != hosts[0].lower():
                return 403, (
                    "A page may ask this service only if the service has sent it. Got one from "
                    f"{origin[:100]}."
                )
        # A link to the page is no harm
        elsewhere = headers.get("sec-fetch-site") == "cross-site"
        if elsewhere and headers.get("sec-fetch-mode") != "navigate":
            return 403, "A page may ask this service only if the service has sent it."
        return None

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name.lower() in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
