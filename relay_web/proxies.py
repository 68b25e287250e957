"""Whose address a request has that a proxy hands on: that of the client, where the proxy is one that we know.

Daphne can put the first entry of X-Forwarded-For there, whoever sends it: so anybody could take any address, and with
it a fresh number of tries to guess a password. Here the header counts only from a proxy that is trusted, and in it what
that proxy itself has seen, which is the last entry; what stands before it may be the client's own invention.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Application = Callable[[Any, Any, Any], Awaitable[Any]]


class ClientAddress:
    """ASGI middleware around everything that has a client, sockets too."""

    def __init__(self, application: Application, trusted: Sequence[Network]) -> None:
        self.application = application
        self.trusted = trusted

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        if self.trusted and (client := client_of(scope, self.trusted)):
            scope = {**scope, "client": [str(client), 0]}
        return await self.application(scope, receive, send)


def client_of(scope: Mapping[str, Any], trusted: Sequence[Network]) -> Address | None:
    """Say who is behind the proxies; None where there is none, or where it is not one of ours."""
    peer = scope.get("client")
    if not peer or not _is_trusted(_address(peer[0]), trusted):
        return None
    found = None
    for entry in reversed(list(_forwarded(scope.get("headers", ())))):
        address = _address(entry)
        if address is None:  # "unknown", or made up
            break
        found = address
        if not _is_trusted(address, trusted):
            break
    return found


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[str]:
    for name, value in headers:
        if name.lower() == b"x-forwarded-for":
            yield from value.decode("latin1").split(",")


def _address(text: str) -> Address | None:
    """Read an address as proxies write it, some of them with a port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _is_trusted(address: Address | None, trusted: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in trusted)
