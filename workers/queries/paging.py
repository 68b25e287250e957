"""The pages of a list: which one is shown, and where its neighbours are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar


class Paged(Protocol):
    """What an address asks of a list, the page among it."""

    @property
    def page(self) -> int: ...

    @property
    def ignored(self) -> tuple[str, ...]: ...

    @property
    def string(self) -> str: ...

    def with_changes(self, **changes: Any) -> Self: ...


Q = TypeVar("Q", bound=Paged)


@dataclass(frozen=True, slots=True)
class Pager:
    """One page among others. Addresses are query strings, "" where there is no such page."""

    page: int
    pages: int | None  # None: more than were counted
    before: str
    after: str

    @property
    def several(self) -> bool:
        return bool(self.before or self.after)


def pages_of(matching: int, size: int) -> int:
    """How many pages so many rows fill; an empty list has one."""
    return max(1, -(-matching // size))


def on_a_page(query: Q, pages: int) -> Q:
    """The same on the last page, and it says so, where a page is asked for that there is not."""
    if query.page <= pages:
        return query
    ignored = (*query.ignored, f"page {query.page}, as there are only {pages}")
    return query.with_changes(page=pages, ignored=ignored)


def pager(query: Paged, pages: int | None, *, more: bool = False) -> Pager:
    """The neighbours of the page that is shown; ``more`` says whether one follows where nobody counted them."""
    page = query.page
    follows = more if pages is None else page < pages
    before = (query.with_changes(page=page - 1).string or "?") if page > 1 else ""
    return Pager(page, pages, before, query.with_changes(page=page + 1).string if follows else "")


def sizes(query: Any, matching: int, among: Sequence[int]) -> list[tuple[int, str, bool]]:
    """How many rows a page may have: each with its address and whether it is chosen; none where one page is enough."""
    chosen = [(size, query.with_changes(size=size).string or "?", size == query.size) for size in among]
    return chosen if matching > among[0] else []
