"""What an address holds stays here: an error's issue is named by the route, never by what a client wrote."""

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI

from perennial.error_reporting import flush, init_error_reporting
from perennial.settings import load_settings
from service.web.app import _add_error_handlers
from tests.support.sentry_receiver import SentryReceiver

SECRET, BORN = "henrietta-quill", "1977" + "-04-01"  # in parts: the source around an error is sent


async def ask(app: FastAPI, addresses: list[str]) -> None:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        for address in addresses:
            answer = await client.get(address, headers={"cookie": f"who={SECRET}"})
            assert answer.status_code == 500
            assert SECRET not in answer.text


def test_addresses_of_one_route_are_one_issue_and_stay_here(sentry: SentryReceiver) -> None:
    init_error_reporting(load_settings({"SENTRY_DSN": sentry.dsn}), "service")
    app, state = FastAPI(), Any
    _add_error_handlers(app, state)

    @app.get("/people/{name}")
    async def fail(name: str, born: str = "") -> None:
        raise ValueError(f"{name} {born} cannot be found")

    asyncio.run(ask(app, [f"/people/{SECRET}-{number}?born={BORN}" for number in range(3)]))
    flush()
    fingerprints = {tuple(event["fingerprint"]) for event in sentry.wait_for(3)}
    assert len(fingerprints) == 1
    assert "/people/{name}" in fingerprints.pop()
    sent = "".join(sentry.bodies)
    assert SECRET not in sent
    assert BORN not in sent
