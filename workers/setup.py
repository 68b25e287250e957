"""The first account of an installation: made by whoever holds the link that the start printed, once."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.forms import BaseUserCreationForm
from django.contrib.auth.models import Group, User
from django.core.signing import BadSignature, SignatureExpired, TimestampSigner
from django.db import transaction

from . import roles

VALID_FOR = 24 * 60 * 60  # seconds
_CLAIM = "first-admin"


def setup_link_token() -> str:
    """Return a token for `/setup/<token>/`; it is good for a day, and only while there are no users."""
    return TimestampSigner(salt="relay-setup").sign(_CLAIM)


def is_needed() -> bool:
    """Whether there is nobody yet who could sign in."""
    return not get_user_model()._default_manager.exists()


def refusal(token: str) -> str:
    """Say in a sentence why this token does not lead in; "" where it does."""
    if not is_needed():
        return "There are users already, so this link has done its work. Sign in, or ask an admin for an account."
    try:
        claim = TimestampSigner(salt="relay-setup").unsign(token, max_age=VALID_FOR)
    except SignatureExpired:
        return "This link is older than a day. Start Relay Web again to get a new one."
    except BadSignature:
        claim = ""
    return "" if claim == _CLAIM else "This link is not one of ours. Copy the whole line that the start printed."


class FirstAdminForm(BaseUserCreationForm):
    """Makes the first admin. Two people with the same link make one account between them."""

    class Meta(BaseUserCreationForm.Meta):
        model = User
        fields = ("username",)

    def save(self, commit: bool = True) -> Any:
        user = super().save(commit=False)
        user.is_staff = user.is_superuser = True
        with transaction.atomic():
            group = Group.objects.select_for_update().get(name=roles.ADMIN)  # the second one waits here
            if not is_needed():
                raise AlreadySetUp
            user.save()
            user.groups.add(group)
        return user


class AlreadySetUp(Exception):  # noqa: N818 - no error, somebody else was faster
    """There is a user by now."""
