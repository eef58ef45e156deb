"""Lets the tests here, which are no package, import `mutations`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
