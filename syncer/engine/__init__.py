"""The sync engine: graph walk, blob transfer, mount index and the run."""
