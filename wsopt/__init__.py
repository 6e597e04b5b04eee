"""wsopt: search the linear combination of saved checkpoints that scores best on an objective."""

__version__ = "0.1.0"
