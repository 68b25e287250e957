"""Who changed which setting: one row for each field that changed, in the transaction that changes it.

A setting is read before and after it is saved, and what differs is recorded. Of secrets only that they changed. Of
what refers to many others (channels of a rule, roles of a person) which were added and which removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from .models import SettingChange
from .secrets_at_rest import SecretField
from .who import Who

#: Fields that change without anybody setting them.
_NOT_SET = frozenset({"last_login", "date_joined"})
_SECRET = "(a secret)"  # noqa: S105 - what is shown instead of one
#: A value is kept up to this length.
LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Value:
    """What a field holds: as text, to be compared; as names, where it refers to many."""

    text: str
    names: frozenset[str] | None = None
    secret: bool = False

    @property
    def shown(self) -> str:
        if self.secret:
            return _SECRET if self.text else ""
        return ", ".join(sorted(self.names)) if self.names is not None else self.text


State = Mapping[str, Value]
#: What there is of a setting before it is added and after it is deleted.
NOTHING: State = {}


def name_of(setting: models.Model) -> str:
    """Name a setting in words: `limit late_after`, `alert rule Zombies`."""
    own = next((getattr(setting, name) for name in ("name", "username") if hasattr(setting, name)), "")
    kind = str(setting._meta.verbose_name)
    return f"{kind} {own}".strip()[:200]


def state_of(setting: models.Model) -> State:
    """Read from the database what people set of it; NOTHING where it is not there."""
    found = type(setting)._default_manager.filter(pk=setting.pk).first()
    if found is None:
        return NOTHING
    state: dict[str, Value] = {}
    for field in found._meta.concrete_fields:
        if field.editable and not field.primary_key and field.name not in _NOT_SET:
            state[field.name] = _value(found, field)
    for many in found._meta.many_to_many:
        names = frozenset(str(each) for each in getattr(found, many.name).all())
        state[many.name] = Value("", names)
    return state


def record(who: Who, setting: str, before: State, after: State, now: datetime | None = None) -> list[SettingChange]:
    """Store what differs between two states of a setting, and return it. Runs in a transaction of the caller."""
    rows = [
        SettingChange(
            at=now or timezone.now(),
            actor=who.name[:150],
            address=who.address[:64],
            setting=setting[:200],
            field=field[:100],
            old=old[:LONGEST],
            new=new[:LONGEST],
        )
        for field, old, new in differences(before, after)
    ]
    return SettingChange.objects.bulk_create(rows)


@contextmanager
def recorded(who: Who, *settings: models.Model) -> Iterator[None]:
    """Record what happens to these stored settings inside, in one transaction with it."""
    with transaction.atomic():
        before = [(each, name_of(each), state_of(each)) for each in settings]
        keys = [each.pk for each in settings]  # a deleted instance loses its own
        yield
        for (setting, name, state), key in zip(before, keys, strict=True):
            record(who, name, state, state_of(type(setting)(pk=key)))


def differences(before: State, after: State) -> Iterator[tuple[str, str, str]]:
    """Yield field, old and new; one row without a field where all of it was added or deleted."""
    if not before or not after:
        if before or after:
            yield "", _all_of(before), _all_of(after)
        return
    for field, new in after.items():
        old = before.get(field, Value(""))
        if old == new:
            continue
        if new.secret:
            yield field, "", "changed"
        elif new.names is not None:
            had = old.names or frozenset()
            if added := new.names - had:
                yield f"{field} added", "", ", ".join(sorted(added))
            if removed := had - new.names:
                yield f"{field} removed", ", ".join(sorted(removed)), ""
        else:
            yield field, old.text, new.text


def _all_of(state: State) -> str:
    return "; ".join(f"{field}: {value.shown}" for field, value in state.items() if value.shown)


def _value(setting: models.Model, field: Any) -> Value:
    value = getattr(setting, field.attname)
    if isinstance(field, SecretField) or field.name == "password":
        return Value("" if value is None else str.__str__(value), secret=True)
    if value is None:
        return Value("")
    if field.choices:
        return Value(str(dict(field.flatchoices).get(value, value)))
    if isinstance(value, datetime):
        return Value(f"{value:%Y-%m-%d %H:%M:%S} UTC")
    if isinstance(value, bool):
        return Value("yes" if value else "no")
    return Value(f"{value:g}" if isinstance(value, float) else str(value))
