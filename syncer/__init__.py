"""Keep container registries in step."""

__version__ = "0.1.0"
