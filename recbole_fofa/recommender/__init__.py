"""Models in RecBole's form: config and dataset in, loss and scores out."""
