"""Registries in a thread of their own, for commands that are processes."""

from tests.integration.cli.conftest import portal, serve, syncer

__all__ = ["portal", "serve", "syncer"]
