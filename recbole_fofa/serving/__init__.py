"""From a trained model to lists of items, for anyone's history and without the data set."""
