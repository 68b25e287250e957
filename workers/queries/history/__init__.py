"""What failed in a period, why, how fast it was noticed and repaired, and whether it gets better."""

from .load import unhurried
from .page import HistoryPage, history
from .tables import TABLES, Table
from .week import Report, Week, report

__all__ = ["TABLES", "HistoryPage", "Report", "Table", "Week", "history", "report", "unhurried"]
