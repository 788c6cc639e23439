"""weft: fine-tune one language model on many tasks at once, exactly balanced."""

__version__ = "0.1.0"
