"""Names and choices that several rooms share, and that the command line shows without loading any of them."""

DEFAULT_MODEL = "usod-rgb-lite"  # embedded
DEFAULT_CUE_EXTRACTOR = "usod-sce-lite"  # embedded
REFINEMENTS = ("crf", "pixel", "none")  # of pseudo-labels
OUTPUT_KINDS = ("saliency", "mask", "cutout", "overlay", "side_by_side")  # what `predict` can write
TASKS = ("rgb", "rgbd", "rgbt", "video", "rsi")
