"""What a training made, as a page to look at."""

from .runs import run_page

__all__ = ["run_page"]
