"""A model of one's own images: what there is to try is tried, compared without masks, and the best is kept."""
