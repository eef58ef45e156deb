"""`accelerate launch scripts/train.py --recipe RECIPE --images DIR --output_dir RUN`: as `hf-usod train`."""

import sys

from hf_usod.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
