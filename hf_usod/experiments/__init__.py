"""Tables of the paper: what is trained and scored for them, and how they are shown."""

from .cells import fill_table
from .recipes import TableRecipe, describe_missing, missing_sets, override, read_recipe, without
from .rendering import table_latex, table_markdown, write_table
from .runs import plan_runs
from .scoring import score

__all__ = [
    "TableRecipe",
    "describe_missing",
    "fill_table",
    "missing_sets",
    "override",
    "plan_runs",
    "read_recipe",
    "score",
    "table_latex",
    "table_markdown",
    "without",
    "write_table",
]
