"""What is published with a model. The files import their siblings only, so they load from a Hub repository alone."""
