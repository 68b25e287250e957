"""Secrets of settings lie encrypted in the database, and are shown by nobody who does not ask for them by name."""

from __future__ import annotations

import pytest
from django.db import connection

from workers.models import Channel
from workers.secrets_at_rest import UnreadableSecretError, decrypt, encrypt

ADDRESS = "json://relay:s3cret-w0rd@127.0.0.1:9/hook"


@pytest.mark.django_db
def test_a_channels_address_cannot_be_read_in_the_database_nor_by_chance() -> None:
    Channel.objects.create(name="ops", address=ADDRESS)
    with connection.cursor() as cursor:
        cursor.execute("SELECT address FROM workers_channel")
        stored = cursor.fetchone()[0]
    channel = Channel.objects.get()
    for text in (stored, str(channel.address), repr(channel.address), repr(channel), f"{channel.address}"):
        assert "s3cret" not in text
    assert channel.address.reveal() == ADDRESS
    channel.save()
    channel.refresh_from_db()
    assert channel.address.reveal() == ADDRESS, "saved again it is not encrypted twice"


def test_another_key_cannot_read_it_and_an_old_one_still_can(settings: pytest.FixtureRequest) -> None:
    token = encrypt(ADDRESS)
    assert decrypt(token) == ADDRESS
    before = settings.SECRET_KEY  # type: ignore[attr-defined]
    settings.SECRET_KEY = "another"  # type: ignore[attr-defined]
    with pytest.raises(UnreadableSecretError, match="enter it again"):
        decrypt(token)
    settings.SECRET_KEY_FALLBACKS = [before]  # type: ignore[attr-defined]
    assert decrypt(token) == ADDRESS
    assert (encrypt(""), decrypt("")) == ("", "")
