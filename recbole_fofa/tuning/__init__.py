"""Search for settings by validation scores, on optuna; spaces of RecBole's format too."""
