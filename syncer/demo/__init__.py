"""Real images to try Syncer with: built in seconds from files of this machine, without a network."""

from syncer.demo.images import Blob, DemoRepository, demo_content, fill

__all__ = ["Blob", "DemoRepository", "demo_content", "fill"]
