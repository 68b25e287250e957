"""What pages and pushes ask of the database. Reading only.

The same objects answer the page, the htmx reply and the push, so that the three can never differ.
"""

from .fleet import (
    Counts,
    Facet,
    Fleet,
    News,
    Row,
    Tile,
    all_of,
    count_fleet,
    fleet,
    news,
    page_keys,
    page_of,
    rows,
)
from .run import Stretch, WorkerPage, find_run, run_by_name, similar_ids, strip, worker_page
from .view import RECENT, SIZES, SORTS, FleetQuery, Search, parse_search
from .watch import Watch, Watches, outbox_position, watches

__all__ = [
    "RECENT",
    "SIZES",
    "SORTS",
    "Counts",
    "Facet",
    "Fleet",
    "FleetQuery",
    "News",
    "Row",
    "Search",
    "Stretch",
    "Tile",
    "Watch",
    "Watches",
    "WorkerPage",
    "all_of",
    "count_fleet",
    "find_run",
    "fleet",
    "news",
    "outbox_position",
    "page_keys",
    "page_of",
    "parse_search",
    "rows",
    "run_by_name",
    "similar_ids",
    "strip",
    "watches",
    "worker_page",
]
