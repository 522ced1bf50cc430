"""Proxies of the environment: this machine is not reached through one, and an address that is not reached names its proxy.

httpx, websockets, urllib and fsspec read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, or the same in lower case. A proxy
knows nothing of the loopback addresses of its clients, so these are added to NO_PROXY before anything is started.
"""

import re
from collections.abc import Mapping
from urllib.request import getproxies_environment, proxy_bypass

from perennial.errors import SettingsError
from perennial.redaction import without_credentials
from perennial.settings import LOOPBACK

VARIABLES = ("http_proxy", "https_proxy", "all_proxy")

_ADDRESS = re.compile(r"\b(https?)://(?:[^/@\s]*@)?(\[[^\]]+\]|[^/:\s'\")]+)")


def direct_loopback(environ: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY, in both spellings, with this machine in it; empty where there is no proxy. Raises SettingsError for one of a
    kind that no client here can use."""
    proxies = _proxies(environ)
    for name, value in proxies.items():
        _refuse_unusable(name, value)
    given = ",".join(filter(None, (environ.get("no_proxy"), environ.get("NO_PROXY"))))
    hosts = dict.fromkeys((*filter(None, re.split(r"[,\s]+", given)), *LOOPBACK))
    direct = "*" if "*" in hosts else ",".join(hosts)
    return {"no_proxy": direct, "NO_PROXY": direct} if proxies else {}


def named_proxy(message: str) -> str:
    """A clause that names the proxy through which the first address in a message is reached; empty where there is none."""
    proxies = getproxies_environment()
    for scheme, host in _ADDRESS.findall(message):
        proxy = proxies.get(scheme) or proxies.get("all")
        if proxy and host not in LOOPBACK and not proxy_bypass(host):
            variable = f"{scheme if scheme in proxies else 'all'}_proxy".upper()
            return f" (through the proxy {without_credentials(proxy)} of {variable}; NO_PROXY={host} goes around it)"
    return ""


def describe_proxies(environ: Mapping[str, str]) -> str:
    """The proxies in words; empty where there are none."""
    named = ", ".join(f"{name}={without_credentials(value)}" for name, value in _proxies(environ).items())
    return named and f"{named}, but not for this machine"


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.lower() in VARIABLES and value}


def _refuse_unusable(name: str, value: str) -> None:
    import httpx

    try:
        httpx.HTTPTransport(proxy=value if "://" in value else f"http://{value}").close()
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        given = without_credentials(value)
        raise SettingsError(f"{name}={given} cannot be used as a proxy ({error}): correct it, or unset it") from error
