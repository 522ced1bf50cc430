"""Credentials in addresses: none is shown, and what is no credential stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.redaction import MARK, without_credentials

SIGNED = {
    "s3": "https://bucket.example.org/rows.csv?X-Amz-Algorithm=AWS4&X-Amz-Credential={0}&X-Amz-Expires=60&X-Amz-Signature={0}",
    "gcs": "https://storage.example.org/b/rows.csv?GoogleAccessId={0}&Expires=1&Signature={0}",
    "azure": "https://a.example.org/c/rows.parquet?sv=2024-11-04&se=2026-01-01&sp=r&sig={0}",
    "token": "https://example.org/rows.csv?format=csv&access_token={0}#top",
    "user": "postgresql://reader:{0}@db.example.org/sales",
    "password": "redis://:{0}@store.example.org:6379/0",
}


@pytest.mark.parametrize("url", SIGNED.values(), ids=SIGNED)
@given(secret=st.text("abcXYZ019-._~%+=$", min_size=8, max_size=40))
def test_a_credential_is_in_no_address_that_is_shown(url: str, secret: str) -> None:
    shown = without_credentials(f"Client error '403 Forbidden' for url '{url.format(secret)}'; see there")
    assert secret not in shown
    assert MARK in shown
    assert shown.endswith("'; see there")
    assert without_credentials(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:4200/api",
        "mail me@example.org",
        "a://b and c@d",
        "https://example.org/rows.csv?format=csv&page=2",
        "s3://bucket/rows-*.parquet",
        "is it so? key=3",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert without_credentials(text) == text


def test_what_a_signed_address_is_otherwise_stays_to_be_read() -> None:
    shown = without_credentials("https://a.example.org/c/rows.parquet?sv=2024-11-04&sig=abc%2B&sp=r")
    assert shown == "https://a.example.org/c/rows.parquet?sv=2024-11-04&sig=***&sp=r"
