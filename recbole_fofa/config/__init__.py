"""The settings of a run: from all sources, checked together, written with their source."""
