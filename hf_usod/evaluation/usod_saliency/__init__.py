"""The `evaluate` module, complete as it would be pushed to a Space; `saliency_metrics` is also the package's own."""
