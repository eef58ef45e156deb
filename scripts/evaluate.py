"""`python scripts/evaluate.py …`: as `hf-usod evaluate`."""

import sys

from hf_usod.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
