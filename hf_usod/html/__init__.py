"""A page to look at: pictures side by side, curves and tables in one HTML file that opens offline."""

from .charts import Chart, Point, histogram
from .content import Comparison, Comparisons, Page, Picture, Table
from .page import write_page

__all__ = ["Chart", "Comparison", "Comparisons", "Page", "Picture", "Point", "Table", "histogram", "write_page"]
