"""From files to batches: location, checks, ordered datasets, lazy sequences, session windows."""
