"""`accelerate launch scripts/label.py IMAGES --output DIR`: as `hf-usod label`, over several processes."""

import sys

from hf_usod.cli import main

if __name__ == "__main__":
    sys.exit(main(["label", *sys.argv[1:]]))
