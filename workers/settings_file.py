"""All settings as one readable file of JSON, and back: to keep them, to review them, to carry them elsewhere.

What is in the file is added, or changed where something of that name is there; what is not in it stays. Everything is
checked before anything is changed, and all of it is changed in one transaction or nothing. People are not in it.
Secrets are only in it when asked for, encrypted with a passphrase. Policies always come in as shadows: what may act
by itself is promoted by a person, who looks at what it would do here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from . import reports
from .alerting.checks import rule_errors
from .alerting.deliver import understood
from .models import AlertRule, Channel, Installation, Limit, Policy, RootCause, SettingChange
from .secrets_at_rest import SecretField, UnreadableSecretError, decrypt
from .setting_changes import NOTHING, name_of, record, state_of
from .setting_rules import check_http_address, check_limits, check_zone, limit_errors
from .who import Who

FORMAT, VERSION = "relay-web-settings", 1
#: In the order in which they are imported: what refers comes after what it refers to.
SECTIONS: dict[str, type[models.Model]] = {
    "limits": Limit,
    "root_causes": RootCause,
    "channels": Channel,
    "alert_rules": AlertRule,
    "policies": Policy,
}
INSTALLATION = "installation"
#: What of one kind of setting is wrong, by field, given all its values: the same that the forms of the admin refuse.
RULES: dict[type[models.Model], Callable[[Mapping[str, Any]], Mapping[str, str]]] = {
    Limit: limit_errors,
    AlertRule: rule_errors,
}
_HEAD = frozenset({"format", "version", "exported_at", "secrets"})
_PROOF = b"relay-web-settings"
#: type of field -> what JSON must hold for it, and how that is called
_SHAPES: tuple[tuple[type[models.Field], tuple[type, ...], str], ...] = (
    (models.BooleanField, (bool,), "true or false"),
    (models.IntegerField, (int,), "a whole number"),
    (models.FloatField, (int, float), "a number"),
    (models.DateTimeField, (str,), "a time like 2026-11-24T08:00:00Z"),
    (models.TimeField, (str,), "a time of day like 22:00"),
    (models.TextField, (str,), "a text"),
    (models.CharField, (str,), "a text"),
)


class SettingsFileError(Exception):
    """The file cannot be used. ``problems`` name section, setting and field of everything that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PassphraseNeededError(SettingsFileError):
    """There are secrets in the file."""


# -- writing


def write(now: datetime, passphrase: str = "") -> str:
    """All settings as JSON; with a passphrase their secrets too. Raises SettingsFileError where one is unreadable."""
    head: dict[str, Any] = {"format": FORMAT, "version": VERSION, "exported_at": _plain(now)}
    cipher = None
    if passphrase:
        salt = secrets.token_bytes(16)
        cipher = _cipher(passphrase, salt)
        proof = cipher.encrypt(_PROOF).decode()
        head["secrets"] = {"salt": base64.b64encode(salt).decode(), "proof": proof}
    content: dict[str, Any] = head
    for section, model in SECTIONS.items():
        content[section] = [_described(each, cipher) for each in model._default_manager.order_by("name")]
    content[INSTALLATION] = _described(Installation.get(), cipher)
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _described(setting: models.Model, cipher: Fernet | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in _fields(type(setting)):
        value = getattr(setting, each.attname)
        if not isinstance(each, SecretField):
            found[each.name] = _plain(value)
        elif cipher and value:
            try:
                found[each.name] = {"encrypted": cipher.encrypt(decrypt(value).encode()).decode()}
            except UnreadableSecretError as error:
                raise SettingsFileError([f"{name_of(setting)}: {each.name}: {error}"]) from None
    for many in setting._meta.many_to_many:
        found[many.name] = sorted(str(each) for each in getattr(setting, many.name).all())
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, time) else value


def _fields(model: type[models.Model]) -> list[models.Field]:
    return [each for each in model._meta.concrete_fields if each.editable and not each.primary_key]


def _cipher(passphrase: str, salt: bytes) -> Fernet:
    key = hashlib.scrypt(passphrase.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)
    return Fernet(base64.urlsafe_b64encode(key))


# -- reading


@dataclass(slots=True)
class Wish:
    """One setting as the file wants it."""

    where: str  # in the file, in words
    setting: models.Model  # as it is in the database, or a new one
    values: dict[str, Any] = field(default_factory=dict)
    many: dict[str, list[str]] = field(default_factory=dict)


def load(
    text: str, who: Who, *, passphrase: str = "", dry_run: bool = False, now: datetime | None = None
) -> list[SettingChange]:
    """Bring the settings to what the file says; return what changes. A dry run changes nothing, but does it all.

    Raises SettingsFileError, before anything has changed; PassphraseNeededError where only a passphrase is missing.
    """
    now = now or timezone.now()
    content = _content(text)
    cipher = _cipher_of(content, passphrase)
    with transaction.atomic():  # what was checked still holds when it is changed
        problems: list[str] = []
        wishes = list(_wishes(content, cipher, problems))
        _check_together(wishes, problems)
        if problems:
            raise SettingsFileError(problems)
        changes = [change for wish in wishes for change in _fulfil(wish, who, now)]
        if any(change.setting == INSTALLATION and change.field.startswith("report_") for change in changes):
            reports.pass_over(Installation.get(), now)
        if dry_run:
            transaction.set_rollback(True)
    return changes


def _content(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise SettingsFileError([f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"]) from None
    except (ValueError, RecursionError) as error:
        raise SettingsFileError([f"it is not JSON that can be used: {error}"]) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SettingsFileError([f"it is no file of settings: its format is not “{FORMAT}”"])
    if content.get("version") != VERSION:
        raise SettingsFileError([f"version: this program reads version {VERSION}, not {content.get('version')!r}"])
    if unknown := sorted(content.keys() - _HEAD - SECTIONS.keys() - {INSTALLATION}):
        raise SettingsFileError([f"{name}: there are no settings of that name" for name in unknown])
    return content


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _cipher_of(content: Mapping[str, Any], passphrase: str) -> Fernet | None:
    """What the secrets of the file are read with; None where it has none."""
    given = content.get("secrets")
    if given is None:
        return None
    try:
        salt, proof = base64.b64decode(given["salt"], validate=True), given["proof"].encode()
    except (TypeError, KeyError, AttributeError, binascii.Error, ValueError):
        raise SettingsFileError(["secrets: salt and proof are missing or damaged"]) from None
    if not passphrase:
        raise PassphraseNeededError(["secrets: the file holds secrets; their passphrase is needed"])
    cipher = _cipher(passphrase, salt)
    try:
        fits = cipher.decrypt(proof) == _PROOF
    except InvalidToken:
        fits = False
    if not fits:
        raise SettingsFileError(["secrets: that is not the passphrase it was written with"])
    return cipher


def _wishes(content: Mapping[str, Any], cipher: Fernet | None, problems: list[str]) -> Iterator[Wish]:
    for section, model in SECTIONS.items():
        rows = content.get(section, [])
        if not isinstance(rows, list):
            problems.append(f"{section}: a list is needed")
            continue
        seen: set[str] = set()
        for number, row in enumerate(rows, 1):
            where = f"{section}, number {number}"
            if not isinstance(row, dict) or not isinstance(row.get("name"), str) or not row["name"]:
                problems.append(f"{where}: an object with a name is needed")
                continue
            where = f"{where} (“{row['name'][:80]}”)"
            if row["name"] in seen:
                problems.append(f"{where}: name: it is there twice")
                continue
            seen.add(row["name"])
            there = model._default_manager.filter(name=row["name"]).first()
            yield _wish(where, there or model(), row, cipher, problems)
    if (row := content.get(INSTALLATION)) is not None:
        if isinstance(row, dict):
            yield _wish(INSTALLATION, Installation.get(), row, cipher, problems)
        else:
            problems.append(f"{INSTALLATION}: an object is needed")


def _wish(
    where: str, setting: models.Model, row: Mapping[str, Any], cipher: Fernet | None, problems: list[str]
) -> Wish:
    """Read one setting, and name everything about it that is wrong."""
    wish = Wish(where, setting)
    fields = {each.name: each for each in _fields(type(setting))}
    many = {each.name for each in setting._meta.many_to_many}
    for name, value in row.items():
        try:
            if name in many:
                wish.many[name] = _names(value)
            elif name not in fields:
                raise ValidationError("there is no such field")
            elif isinstance(fields[name], SecretField):
                wish.values[name] = _secret(value, cipher)
            else:
                wish.values[name] = _value(fields[name], value, setting)
            _check_alone(setting, name, wish.values.get(name))
        except ValidationError as error:
            problems.extend(f"{where}: {name}: {message}" for message in error.messages)
    for name, each in fields.items():
        missing = setting.pk is None and name not in row and not each.blank and not each.has_default()
        if missing and not isinstance(each, SecretField):
            problems.append(f"{where}: {name}: it is missing")
    return wish


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValidationError("a list of names is needed")
    return sorted(set(value))


def _secret(value: Any, cipher: Fernet | None) -> str:
    if not isinstance(value, dict) or set(value) != {"encrypted"} or not isinstance(value["encrypted"], str):
        raise ValidationError("a secret stands in a file only encrypted, as export_settings --with-secrets writes it")
    if cipher is None:
        raise ValidationError("it is encrypted, but the file does not say with what: its “secrets” are missing")
    try:
        return cipher.decrypt(value["encrypted"].encode()).decode()
    except (InvalidToken, UnicodeError):
        raise ValidationError("it is damaged: it cannot be decrypted with the passphrase of the file") from None


def _value(each: models.Field, value: Any, setting: models.Model) -> Any:
    """A value as the field takes it, checked as a form would. Raises ValidationError."""
    if value is None and each.null:
        return None
    types, called = next(((types, called) for kind, types, called in _SHAPES if isinstance(each, kind)), ((), ""))
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ValidationError(f"{called or 'something else'} is needed, not {json.dumps(value)[:60]}")
    if isinstance(value, float | int) and not math.isfinite(value):
        raise ValidationError("that is no number")
    if isinstance(value, str) and "\0" in value:
        raise ValidationError("it holds a character that no text may hold")
    cleaned = each.clean(value, setting)
    if isinstance(cleaned, datetime) and isinstance(value, str) and "T" in value and value[-1] != "Z":
        offset = value.partition("T")[2]
        if "+" not in offset and "-" not in offset:
            raise ValidationError("its time zone is missing; write Z for UTC")
    return cleaned


def _check_alone(setting: models.Model, name: str, value: Any) -> None:
    if name.endswith("_zone"):
        check_zone(value)
    if name == "dead_man_address" and value:
        check_http_address(value)
    if isinstance(setting, Channel) and name == "address" and value and not understood(value):
        raise ValidationError("apprise does not understand it")


def _check_together(wishes: list[Wish], problems: list[str]) -> None:
    """Check what holds between fields, and between settings."""
    channels = set(Channel.objects.values_list("name", flat=True))
    channels |= {wish.values.get("name", "") for wish in wishes if isinstance(wish.setting, Channel)}
    limits = dict(Limit.objects.values_list("name", "seconds"))
    for wish in wishes:
        for name, names in wish.many.items():
            problems += [
                f"{wish.where}: {name}: there is no channel “{each}”, neither here nor in the file"
                for each in names
                if each not in channels
            ]
        model = type(wish.setting)
        values = {each.name: wish.values.get(each.name, getattr(wish.setting, each.attname)) for each in _fields(model)}
        if model in RULES:
            problems += [f"{wish.where}: {name}: {words}" for name, words in RULES[model](values).items()]
        if isinstance(wish.setting, Limit) and values["seconds"] is not None:
            limits[values["name"]] = values["seconds"]
    if not problems:
        try:
            check_limits(limits)
        except ValidationError as error:
            problems += [f"limits: {message}" for message in error.messages]


# -- changing


def _fulfil(wish: Wish, who: Who, now: datetime) -> list[SettingChange]:
    setting = wish.setting
    before = state_of(setting) if setting.pk else NOTHING
    values = dict(wish.values)
    if isinstance(setting, Policy):
        values["mode"] = Policy.Mode.SHADOW
    if isinstance(setting, Channel) and not (setting.address or values.get("address")):
        values["enabled"] = False  # it came without its secret, and nothing can be sent through it
    for name, value in values.items():
        setattr(setting, name, value)
    # Of what is there, no other column: those are written by whoever sends, calls or decides
    setting.save(update_fields=list(values) if before else None)
    for name, names in wish.many.items():
        getattr(setting, name).set(Channel.objects.filter(name__in=names))
    return record(who, name_of(setting), before, state_of(setting), now)
