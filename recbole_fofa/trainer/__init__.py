"""Training through RecBole's trainer: small overrides, checkpoints of plain data."""
