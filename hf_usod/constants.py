"""Names and choices that several rooms share, and that the command line shows without loading any of them."""

VERSION = "0.2.0"  # of the package
DEFAULT_MODEL = "usod-rgb-lite"  # embedded
VIDEO_ADAPTER = "usod-video-lite"  # embedded
DEFAULT_CUE_EXTRACTOR = "usod-sce-lite"  # embedded
REFINEMENTS = ("crf", "pixel", "none")  # of pseudo-labels
OUTPUT_KINDS = ("saliency", "mask", "cutout", "overlay", "side_by_side")  # what `predict` can write
FORMATS = ("png", "webp", "jpg")  # of these
ALPHAS = ("soft", "hard")  # what the opacity of cutouts is: the saliency map, or the mask
EDGES = ("fine", "none")  # of what `predict` writes
AUX_KINDS = ("depth", "thermal", "flow")  # what an auxiliary map may be; those of the models, but "none"
RUNTIMES = ("torch", "onnx")  # what may run a model
TASKS = ("rgb", "rgbd", "rgbt", "video", "rsi")
INIT_WEIGHTS = ("random", "copy", "zero")  # of a task adapter
PCL_SD_VARIANTS = ("paper", "released")  # of the distilling loss
PAPER_WEIGHTS = (0.2, 0.6, 0.2)  # of prior, posterior and previous label, as published
HUB_DATASETS = "hf://datasets/"  # what images on the Hub begin with
