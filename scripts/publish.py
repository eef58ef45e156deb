"""`python scripts/publish.py KIND SOURCE --repo NAMESPACE/NAME`: as `hf-usod publish`."""

import sys

from hf_usod.cli import main

if __name__ == "__main__":
    sys.exit(main(["publish", *sys.argv[1:]]))
