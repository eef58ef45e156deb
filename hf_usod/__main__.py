"""`python -m hf_usod`: as `hf-usod`."""

import sys

from .cli import main

sys.exit(main())
